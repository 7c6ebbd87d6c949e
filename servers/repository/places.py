"""Where in the text of a configuration its keys stand; by the text's looks, since the parsers do not say."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator

__all__ = ["Place", "Places", "json_places", "proto_places", "toml_places"]

Place = tuple[str | int, ...]
"""Names of tables and keys, and the numbers, from 0 on, of what there are several of."""

_HEADER = re.compile(r"\s*\[([^\[\]]+)\]\s*(#.*)?$")
_PART = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
_KEY = re.compile(rf"\s*({_PART}(?:\s*\.\s*{_PART})*)\s*=")
_JSON_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[{}\[\],:]|[^\s{}\[\],:"]+', re.S)
_PROTO_TOKEN = re.compile(r"""#[^\n]*|"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*'|[{}<>\[\]:;,]|[^\s{}<>\[\]:;,#"']+""")
_NAME = re.compile(r"[A-Za-z_]\w*")


class Places:
    """Lines of a text, from 1 on, by what stands there first; ``repeated``: keys that their table has already, with
    the lines of their repetition.
    """

    def __init__(self) -> None:
        self.repeated: list[tuple[Place, int]] = []
        self._lines: dict[Place, int] = {}

    def add(self, place: Place, line: int) -> None:
        self._lines.setdefault(place, line)

    def has(self, place: Place) -> bool:
        return place in self._lines

    def line(self, *place: str | int) -> int:
        """The line of the longest part of the place that has one of its own; 0 when none has."""
        for depth in range(len(place), 0, -1):
            if place[:depth] in self._lines:
                return self._lines[place[:depth]]
        return 0


def toml_places(text: str) -> Places:
    """Tables and keys, dotted or not: ('models', 'digits', 'path')."""
    places = Places()
    table: Place = ()
    for number, line in enumerate(text.splitlines(), 1):
        path: Place
        if header := _HEADER.match(line):
            path = table = _parts(header[1])
            first = 1
        elif key := _KEY.match(line):
            path = (*table, *_parts(key[1]))
            first = len(table) + 1
        else:
            continue
        for depth in range(first, len(path) + 1):
            places.add(path[:depth], number)
    return places


def json_places(text: str) -> Places:
    """Keys and elements of a valid JSON text: ('model_config_list', 0, 'name')."""
    places = Places()
    opened: list[_Open] = []
    for token, line in _tokens(_JSON_TOKEN, text):
        inner = opened[-1] if opened else None
        if token in "]}":
            opened.pop()
        elif token == ",":
            assert inner is not None
            inner.step()
        elif inner is not None and inner.wants_key:
            inner.at, inner.wants_key = json.loads(token), False
            if places.has(inner.here):
                places.repeated.append((inner.here, line))
            places.add(inner.here, line)
        elif token != ":":
            here = inner.here if inner is not None else ()
            places.add(here, line)
            if token in "[{":
                opened.append(_Open(here, token == "{"))
    return places


class _Open:
    """An object or list of JSON that has not ended yet, and where in it we are."""

    def __init__(self, path: Place, has_keys: bool) -> None:
        self.path = path
        self.has_keys = self.wants_key = has_keys
        self.at: str | int = 0

    @property
    def here(self) -> Place:
        return (*self.path, self.at)

    def step(self) -> None:
        self.wants_key = self.has_keys
        if not isinstance(self.at, str):
            self.at += 1


def proto_places(text: str) -> Places:
    """Fields of a valid text protocol buffer, each with its number among those of its name in the same message, and
    the first without: ('model_config_list', 0, 'config', 1, 'name', 0) and (..., 'name').
    """
    places = Places()
    counts: Counter[Place] = Counter()
    path: Place = ()
    opened: list[tuple[Place, str, bool]] = []  # the paths around this message, its field, and whether in a list
    name, listed = "", False
    for token, line in _tokens(_PROTO_TOKEN, text):
        if token in "}>" and opened:
            path, name, listed = opened.pop()
            name = name if listed else ""
        elif token == "[" and name:
            listed = True
        elif token == "]":
            name, listed = "", False
        elif token in "[:;," or token.startswith("#"):
            continue
        elif not name:
            name = token if _NAME.fullmatch(token) else ""
        else:
            field = (*path, name)
            here = (*field, counts[field])
            counts[field] += 1
            places.add(field, line)
            places.add(here, line)
            if token in "{<":
                opened.append((path, name, listed))
                path, name, listed = here, "", False
            elif not listed:
                name = ""
    return places


def _tokens(pattern: re.Pattern[str], text: str) -> Iterator[tuple[str, int]]:
    line, last = 1, 0
    for match in pattern.finditer(text):
        line += text.count("\n", last, match.start())
        last = match.start()
        yield match[0], line


def _parts(dotted: str) -> Place:
    return tuple([part.strip("\"'") for part in re.findall(_PART, dotted)])
