"""Where a response's payloads will be, from the first bytes of the message alone.

This is a guess to be verified with the complete message, which ``decode`` does; here only nothing is read outside
the bytes that are there. Tables and field numbers are those of schema/graphpipe.fbs.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

__all__ = ["Preview", "preview"]

_OUTPUTS, _NAMES = 0, 2  # fields of InferResponse
_SHAPE, _DATA = 1, 2  # fields of Tensor
_MOST: Final = 1024  # outputs


class Preview(NamedTuple):
    """An output: its name ("" without one), its shape, and the offset of its payload."""

    name: str
    shape: tuple[int, ...]
    offset: int


def preview(start: memoryview) -> list[Preview]:
    """The outputs of the response that begins so; none when that does not tell."""
    try:
        response = _u32(start, 0)
        tensors = _elements(start, _field(start, response, _OUTPUTS))
        places = _field(start, response, _NAMES)
        names = [_string(start, at) for at in _elements(start, places)] if places else [""] * len(tensors)
        return [_tensor(start, at, name) for at, name in zip(tensors, names, strict=True)]
    except (struct.error, ValueError):
        return []


def _tensor(start: memoryview, at: int, name: str) -> Preview:
    shape, data = _field(start, at, _SHAPE), _field(start, at, _DATA)
    return Preview(name, struct.unpack_from(f"<{_count(start, shape)}q", start, shape + 4), data + 4)


def _u32(start: memoryview, at: int) -> int:
    return int(struct.unpack_from("<I", start, at)[0])


def _field(start: memoryview, table: int, number: int) -> int:
    """Where the vector or string is that a field of a table points to; 0 when the field is not there."""
    vtable = table - int(struct.unpack_from("<i", start, table)[0])
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", start, vtable)[0]:
        return 0
    distance = struct.unpack_from("<H", start, vtable + slot)[0]
    return table + distance + _u32(start, table + distance) if distance else 0


def _count(start: memoryview, vector: int) -> int:
    count = _u32(start, vector)
    if count > _MOST:
        raise ValueError
    return count


def _elements(start: memoryview, vector: int) -> list[int]:
    """Where the tables or strings of a vector are."""
    places = range(vector + 4, vector + 4 + 4 * _count(start, vector), 4)
    return [place + _u32(start, place) for place in places]


def _string(start: memoryview, at: int) -> str:
    (text,) = struct.unpack_from(f"<{_count(start, at)}s", start, at + 4)
    return str(text, "utf-8")
