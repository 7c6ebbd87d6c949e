"""The rows of ``tensorwire top``, of what a server answers now and answered before."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from listings import model, version

from tensorwire.servers.commands.top import rows


def counted(requests: int, failures: int = 0) -> dict[tuple[str, str], Mapping[str, Any]]:
    return {("m", "1"): version(1, requests=requests, failures=failures)}


def test_rates_are_since_the_last_look() -> None:
    (row,) = rows([model("m", version(1, requests=70, failures=5))], counted(50, 4), 2.0)
    assert (row.rate, row.failures) == (10.0, 0.5)
    (row,) = rows([model("m", version(1, requests=70))], {}, 2.0)
    assert (row.rate, row.failures) == (None, None)


def test_a_version_that_was_loaded_anew_counts_from_zero() -> None:
    (row,) = rows([model("m", version(1, requests=6, failures=2))], counted(50, 4), 2.0)
    assert (row.rate, row.failures) == (3.0, 1.0)


def test_what_does_not_serve_has_no_rate() -> None:
    failed = version(1, state="END", error="no such file", requests=70)
    (row,) = rows([model("m", failed)], counted(50), 2.0)
    assert (row.rate, row.state, row.note) == (None, "END", "no such file")


def test_weights_and_labels() -> None:
    labels = {"stable": 1, "old": 1, "canary": 2}
    found = rows(
        [model("m", version(3), version(2), version(1), labels=labels, traffic={"stable": 2, "2": 1, "canary": 1})],
        {},
        1.0,
    )
    assert [row.labels for row in found] == ["", "canary 50 %", "stable, old 50 %"]
    (row,) = rows([model("m", version(1), labels={"stable": 1})], {}, 1.0)
    assert row.labels == "stable"


def test_how_a_shadow_compares() -> None:
    shadow = {"to": "next", "same": 1200, "different": 3, "failed": 0, "skipped": 0, "latest": "output 'y': 1 != 2"}
    found = rows([model("m", version(2), version(1), labels={"next": 2}, shadow=shadow)], {}, 1.0)
    assert [row.note for row in found] == ["shadow: 1,200 same, 3 different (output 'y': 1 != 2)", ""]
    shadow.update(to="1", same=0, different=0, latest="")
    found = rows([model("m", version(2), version(1), shadow=shadow)], {}, 1.0)
    assert [row.note for row in found] == ["", "shadow: no requests yet"]


def test_models_without_versions_and_with_problems() -> None:
    found = rows([model("a"), model("b", problem="/b: gone"), model("c", version(1), problem="/c: gone")], {}, 1.0)
    assert [(row.model, row.version, row.note) for row in found] == [
        ("c", "1", ""),
        ("a", "", "no version yet"),
        ("b", "", "/b: gone"),
        ("c", "", "/c: gone"),
    ]
