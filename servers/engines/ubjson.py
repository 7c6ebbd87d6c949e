"""UBJSON (https://ubjson.org), as much of it as XGBoost writes, read without trust in any length or depth of it."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

__all__ = ["parse"]

_NUMBERS: dict[bytes, np.dtype[Any]] = {
    b"i": np.dtype("i1"),
    b"U": np.dtype("u1"),
    b"I": np.dtype(">i2"),
    b"l": np.dtype(">i4"),
    b"L": np.dtype(">i8"),
    b"d": np.dtype(">f4"),
    b"D": np.dtype(">f8"),
}
_INTEGERS = {b"i": ">b", b"U": ">B", b"I": ">h", b"l": ">i", b"L": ">q"}
_FLOATS = {b"d": ">f", b"D": ">d"}
_WORDS = {b"Z": None, b"T": True, b"F": False}
_DEEPEST = 100


def parse(data: bytes) -> Any:
    """The document: dict, list, str, int, float, bool, None, and arrays of numbers as views of ``data``.

    Raises ValueError with the offset for what is cut short, nested over 100 deep, or no UBJSON.
    """
    reader = _Reader(data)
    return reader.value(reader.take(1), 0)


class _Reader:
    """A place in the bytes; nothing is read past their end."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        if not 0 <= size <= len(self._data) - self._at:
            raise ValueError(f"{size} bytes are wanted at offset {self._at}, {len(self._data) - self._at} are left")
        self._at += size
        return self._data[self._at - size : self._at]

    def value(self, kind: bytes, depth: int) -> Any:
        if depth > _DEEPEST:
            raise ValueError(f"brackets within brackets, over {_DEEPEST} deep, at offset {self._at}")
        if kind == b"{":
            return self._object(depth)
        if kind == b"[":
            return self._array(depth)
        if kind == b"S":
            return self._text()
        if kind in _WORDS:
            return _WORDS[kind]
        if kind in _INTEGERS or kind in _FLOATS:
            code = _INTEGERS.get(kind) or _FLOATS[kind]
            return struct.unpack(code, self.take(struct.calcsize(code)))[0]
        raise ValueError(f"{kind!r} at offset {self._at - 1} begins no value")

    def _length(self) -> int:
        kind = self.take(1)
        if kind not in _INTEGERS:
            raise ValueError(f"{kind!r} at offset {self._at - 1} begins no length")
        length = self.value(kind, 0)
        if length < 0:
            raise ValueError(f"the length {length} before offset {self._at}")
        return int(length)

    def _text(self) -> str:
        return self.take(self._length()).decode(errors="replace")

    def _object(self, depth: int) -> dict[str, Any]:
        found: dict[str, Any] = {}
        while self._data[self._at : self._at + 1] != b"}":
            key = self._text()
            found[key] = self.value(self.take(1), depth + 1)
        self._at += 1
        return found

    def _array(self, depth: int) -> Any:
        mark = self._data[self._at : self._at + 1]
        if mark == b"$":
            kind = self.take(2)[1:]
            if kind not in _NUMBERS or self.take(1) != b"#":
                raise ValueError(f"an array of {kind!r} at offset {self._at}")
            dtype = _NUMBERS[kind]
            return np.frombuffer(self.take(self._length() * dtype.itemsize), dtype)
        found = []
        if mark == b"#":
            self._at += 1
            for _ in range(self._length()):
                found.append(self.value(self.take(1), depth + 1))
            return found
        while self._data[self._at : self._at + 1] != b"]":
            found.append(self.value(self.take(1), depth + 1))
        self._at += 1
        return found
