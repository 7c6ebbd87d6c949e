"""MXNet's lists of named arrays, the .params files.

The format is that of NDArray::Save and NDArray::Load, with the older ones that Load still reads:
https://github.com/apache/mxnet/blob/1.9.1/src/ndarray/ndarray.cc
"""

from __future__ import annotations

import math
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire.servers.engines.nets.files import naming, printable, read_file
from tensorwire.servers.model import Array, ModelError

__all__ = ["LIST_MAGIC", "read_params"]

LIST_MAGIC = 0x112
"""The first eight bytes of a list, little-endian."""

_V1, _V2, _V3 = 0xF993FAC8, 0xF993FAC9, 0xF993FACA  # an array's; an older one begins with its number of dimensions
_DENSE = 0
_MOST_DIMENSIONS = 32
_NONE = np.empty(0, np.float32)
# mshadow's numbers of types
_TYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8", "?", "i2", "u2", "u4", "u8")
_BFLOAT16 = 12


def read_params(path: Path) -> dict[str, Array]:
    """The arrays by name, views of the file's bytes; without the prefixes 'arg:' and 'aux:' that tell them apart.

    Nothing is allocated for sizes that the file only declares. Raises ModelError: unreadable, not such a file, cut
    short, sparse arrays, a type that is not known, names that are missing or come twice.
    """
    with naming(path):
        return _Reader(read_file(path)).arrays()


class _Reader:
    """A cursor over the bytes; every read is checked against what is left."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._at = 0

    def arrays(self) -> dict[str, Array]:
        if not self._data:
            raise ModelError("the file is empty")
        if len(self._data) < 16 or self._one("<Q") != LIST_MAGIC:
            raise ModelError("not a list of MXNet arrays")
        self._one("<Q")
        found = [self._array() for _ in range(self._length("arrays", 4))]
        names = [self._name() for _ in range(self._length("names", 8))]
        if len(names) != len(found):
            raise ModelError(f"{len(found)} arrays with {len(names)} names: a network needs the names")
        if self._left:
            raise ModelError(f"{self._left} bytes are left over after the last name")
        arrays = dict(zip(names, found, strict=True))
        if len(arrays) != len(names):
            raise ModelError("a name comes twice")
        return arrays

    @property
    def _left(self) -> int:
        return len(self._data) - self._at

    def _take(self, count: int, what: str) -> memoryview:
        if count > self._left:
            raise ModelError(f"cut short: {what} needs {count:,} bytes, {self._left:,} are left")
        self._at += count
        return self._data[self._at - count : self._at]

    def _one(self, kind: str) -> int:
        value: int = struct.unpack(kind, self._take(struct.calcsize(kind), "a number"))[0]
        return value

    def _length(self, what: str, least: int) -> int:
        """A count of items of which each has at least so many bytes."""
        count = self._one("<Q")
        if count * least > self._left:
            raise ModelError(f"cut short, or damaged: {count:,} {what} in {self._left:,} bytes")
        return count

    def _name(self) -> str:
        try:
            name = bytes(self._take(self._one("<Q"), "a name")).decode()
        except UnicodeDecodeError:
            raise ModelError("a name is not UTF-8") from None
        return name.removeprefix("arg:").removeprefix("aux:")

    def _array(self) -> Array:
        magic = self._one("<I")
        if magic in (_V2, _V3):
            storage = self._one("<i")
            if storage != _DENSE:
                raise ModelError(f"storage type {storage}: only dense arrays are supported")
        shape = self._shape(magic)
        if not shape and magic != _V3:
            return _NONE  # an array that was never made: nothing follows
        if -1 in shape:
            return _NONE
        self._take(8, "a device")
        dtype = _dtype(self._one("<i"))
        count = math.prod(shape)
        data = self._take(count * dtype.itemsize, f"an array of shape {list(shape)} {dtype}")
        return np.frombuffer(data, dtype, count).reshape(shape)

    def _shape(self, magic: int) -> tuple[int, ...]:
        """(-1,) for a shape that is not known."""
        wide = magic in (_V1, _V2, _V3)
        rank = self._one("<i") if wide else magic
        if magic == _V3 and rank == -1:
            return (-1,)
        if not 0 <= rank <= _MOST_DIMENSIONS:
            raise ModelError(f"{rank} dimensions: not a list of MXNet arrays, or damaged")
        sizes = struct.unpack(f"<{rank}{'q' if wide else 'I'}", self._take(rank * (8 if wide else 4), "a shape"))
        if any(size < 0 for size in sizes):
            raise ModelError(f"shape {printable(str(list(sizes)))}: damaged")
        return sizes


def _dtype(flag: int) -> np.dtype[Any]:
    if flag == _BFLOAT16:
        import ml_dtypes

        extended: np.dtype[Any] = np.dtype(ml_dtypes.bfloat16)
        return extended
    if not 0 <= flag < len(_TYPES):
        raise ModelError(f"type {flag} is not known")
    return np.dtype(_TYPES[flag]).newbyteorder("<")
