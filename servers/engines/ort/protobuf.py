"""Reading a protocol buffer field by field, for those of its fields that one wants, without a library for it.

The encoding: https://protobuf.dev/programming-guides/encoding/
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

__all__ = ["Field", "Reader", "varints"]

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 2_000_000  # of one file; a few seconds


@dataclass(frozen=True, slots=True)
class Field:
    """One field: its number, and its value (a varint's) or where its bytes stand in the file, from ``start`` to
    ``end`` (None for a value).
    """

    number: int
    value: int
    start: int
    end: int | None


class Reader:
    """Fields of the messages in one file. Every length is held against the message that it stands in.

    All methods raise ValueError for what is no protocol buffer, or has too many fields to be looked through.
    """

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file = file
        self._size = size
        self._left = _MOST_FIELDS

    def fields(self, inside: Field | None = None) -> Iterator[Field]:
        """The fields of a message: the file itself, or the bytes of a field."""
        at, end = (0, self._size) if inside is None else (inside.start, inside.end or 0)
        file = self._file
        file.seek(at)
        while file.tell() < end:
            self._left -= 1
            if self._left < 0:
                raise ValueError("too many fields")
            key = self._varint()
            number, kind = key >> 3, key & 7
            if number == 0:
                raise ValueError("a field without a number")
            if kind == _VARINT:
                value = self._varint()
                after = file.tell()
                field = Field(number, value, after, None)
            else:
                size = self._varint() if kind == _BYTES else {_FIXED64: 8, _FIXED32: 4}.get(kind, -1)
                start = file.tell()
                if not 0 <= size <= end - start:
                    raise ValueError("a field that is longer than its message")
                after = start + size
                field = Field(number, 0, start, after)
            if after > end:
                raise ValueError("a field that is longer than its message")
            yield field
            file.seek(after)

    def data(self, field: Field, most: int) -> bytes:
        """The bytes of a field, at most so many of them (a copy)."""
        if field.end is None:
            raise ValueError("a number where bytes are expected")
        self._file.seek(field.start)
        return self._file.read(min(field.end - field.start, most))

    def text(self, field: Field, most: int = 4096) -> str:
        """The text of a field; what is not UTF-8 in it is replaced."""
        return self.data(field, most).decode("utf-8", "replace")

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 64, 7):
            byte = self._file.read(1)
            if not byte:
                raise ValueError("cut short")
            value |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return value
        raise ValueError("a number of more than 64 bits")


def varints(data: bytes) -> list[int]:
    """The numbers of a packed field."""
    found, value, shift = [], 0, 0
    for byte in data:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            found.append(value)
            value = shift = 0
    return found
