"""Lines of keys, found in texts by their looks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire.servers.repository.places import Place, json_places, proto_places, toml_places

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=15,
)


def keys(value: Any, place: Place = ()) -> Iterator[Place]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield (*place, key)
        yield from keys(inner, (*place, key))


@given(VALUES, st.booleans())
def test_json(value: Any, escape: bool) -> None:
    """With indentation every key and element has a line of its own, in their order."""
    text = json.dumps(value, indent=1, ensure_ascii=escape)
    places = json_places(text)
    lines = [places.line(*place) for place in keys(value)]
    assert all(places.has(place) for place in keys(value))
    assert lines == sorted(set(lines))
    assert json_places(json.dumps(value)).repeated == []


@pytest.mark.parametrize(
    ("text", "repeated"),
    [
        ('{"a": 1,\n"a": 2}', [(("a",), 2)]),
        ('[{"a": {"b": 1, "b": 1}},\n{"a": {"b": 2}}]', [((0, "a", "b"), 1)]),
        ('{"a": "a", "b": ["a", "a"]}', []),
    ],
)
def test_repeated_keys_of_json(text: str, repeated: list[tuple[Place, int]]) -> None:
    assert json_places(text).repeated == repeated


PROTO = """# config {
a { name: "x } \\" y"  # b: 1
  labels { key: 'k' value: -1 }
  labels: < key: 'k'
    value: 2 >
}
a: [{ n: [1,
  2] }, {
  n: 3 n:
  4 }]
text: "one"
  "two"
"""


def test_text_protocol_buffers() -> None:
    places = proto_places(PROTO)
    for place, line in (
        (("a",), 2),
        (("a", 0, "name"), 2),
        (("a", 0, "labels", 0, "value"), 3),
        (("a", 0, "labels", 1), 4),
        (("a", 0, "labels", 1, "value"), 5),
        (("a", 1, "n", 0), 7),
        (("a", 1, "n", 1), 8),
        (("a", 2, "n", 0), 9),
        (("a", 2, "n", 1), 10),
        (("text",), 11),
    ):
        assert places.has(place) and places.line(*place) == line, place
    assert not places.has(("b",)) and not places.has(("a", 3)) and not places.has(("config",))
    assert places.line("a", 0, "labels", 0, "none") == 3
    assert places.line("none") == 0


@given(st.text(st.sampled_from("ab:{}<>[],;#\"' \n1-")))
def test_any_text_has_places(text: str) -> None:
    proto_places(text)
    toml_places(text)
