"""The choice among weighted versions."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire.servers.routing.rules import MirrorRule, SplitRule, find_version
from tensorwire.servers.routing.split import Split, share_of

IDS = [f"user-{number}" for number in range(20_000)]


def test_weights_are_kept_by_id_and_by_chance() -> None:
    split = Split([("stable", 90, 1), ("canary", 10, 2)])
    random.seed(7)
    for ids in (IDS, [""] * len(IDS)):
        share = Counter(split.choose(name) for name in ids)[2] / len(ids)
        assert abs(share - 0.1) < 0.01, share


def test_an_id_stays_where_it_is() -> None:
    one, other = (Split([("stable", 90, 1), ("canary", 10, 2)]) for _ in range(2))
    assert [one.choose(name) for name in IDS[:500]] == [other.choose(name) for name in IDS[:500]]
    # A number that moves with its label takes the label's ids along.
    moved = Split([("stable", 90, 2), ("canary", 10, 3)])
    assert [one.choose(name) + 1 for name in IDS[:500]] == [moved.choose(name) for name in IDS[:500]]


def test_a_weight_that_grows_only_draws_ids_to_itself() -> None:
    before, after = Split([("a", 90, 1), ("b", 10, 2)]), Split([("a", 90, 1), ("b", 30, 2)])
    for name in IDS:
        assert not (before.choose(name) == 2 and after.choose(name) == 1)


def test_ids_of_a_version_that_is_away_go_to_the_others_alone() -> None:
    three, two = Split([("a", 1, 1), ("b", 1, 2), ("c", 2, 3)]), Split([("a", 1, 1), ("b", 1, 2)])
    moved = Counter()
    for name in IDS:
        found = three.choose(name)
        if found == 3:
            moved[two.choose(name)] += 1
        else:
            assert two.choose(name) == found
    assert abs(moved[1] / (moved[1] + moved[2]) - 0.5) < 0.02


@given(st.text(), st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=5))
def test_any_id_has_a_version(name: str, weights: list[float]) -> None:
    split = Split([(str(number), weight, number) for number, weight in enumerate(weights)])
    assert 0 <= split.choose(name) < len(weights)
    assert share_of(name, 1.0)


def test_a_share_of_ids_is_always_the_same() -> None:
    chosen = [name for name in IDS if share_of(name, 0.25)]
    assert abs(len(chosen) / len(IDS) - 0.25) < 0.01
    assert all(share_of(name, 0.5) for name in chosen)


def test_rules_say_what_is_wrong() -> None:
    for weights, told in (({"a": -1}, "'a' is a number from 0 on"), ({"a": 0, "b": 0}, "all weights are 0")):
        with pytest.raises(ValueError, match=told):
            SplitRule(weights)
    for fields, told in (
        ({"to": ""}, "is missing"),
        ({"to": "a", "share": 0}, "above 0"),
        ({"to": "a", "share": 1.5}, "up to 1"),
        ({"to": "a", "tolerance": -1}, "0 or more"),
    ):
        with pytest.raises(ValueError, match=told):
            MirrorRule(**fields)  # type: ignore[arg-type]
    assert find_version("12", {"12": 3}) == 12
    assert find_version("stable", {"stable": 3}) == 3
    assert find_version("stable", {}) is None
