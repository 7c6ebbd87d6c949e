"""Values between the wire's arrays and ONNX Runtime's: text, types that numpy has not, sequences, maps."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tensorwire.servers.model import Array, RequestError

__all__ = ["Convert", "map_columns", "stack", "text_in", "text_out", "view"]

Convert = Callable[[Any], Array]
"""From what ONNX Runtime gives for an output to its array."""


class _Lent:
    """The memory of an OrtValue, for numpy, which keeps this object and so the OrtValue alive."""

    __slots__ = ("__array_interface__", "_value")

    def __init__(self, value: Any, shape: tuple[int, ...], itemsize: int) -> None:
        self._value = value
        self.__array_interface__ = {
            "version": 3,
            "shape": shape,
            "typestr": f"<u{itemsize}",
            "data": (value.data_ptr(), False),
        }


def view(value: Any, dtype: np.dtype[Any]) -> Array:
    """A tensor OrtValue in the CPU's memory as an array over that memory, of any dtype, ml_dtypes' included."""
    shape = tuple(value.shape())
    if 0 in shape:
        return np.empty(shape, dtype)
    return np.asarray(_Lent(value, shape, dtype.itemsize)).view(dtype)


def text_in(name: str, x: Array) -> Array:
    """Text as objects of str, a copy: given bytes, ONNX Runtime would take their repr, "b'...'".

    Raises RequestError 400 for bytes that are not UTF-8.
    """
    try:
        texts = [item.decode() if isinstance(item, bytes) else str(item) for item in x.ravel()]
    except UnicodeDecodeError as error:
        raise RequestError(400, f"input {name!r}: not UTF-8: {error}") from None
    return _objects(texts, x.shape)


def text_out(x: Array) -> Array:
    """Text as objects of bytes (UTF-8), a copy."""
    return _objects([item.encode() for item in x.ravel()], x.shape)


def stack(name: str, dtype: np.dtype[Any]) -> Convert:
    """For a sequence of tensors: one tensor, the sequence along a new first axis (a copy), [0] for an empty one.

    The conversion raises ValueError when the tensors' shapes differ.
    """

    def convert(found: Sequence[Array]) -> Array:
        if not found:
            return np.empty(0, dtype)
        shapes = {item.shape for item in found}
        if len(shapes) > 1:
            several = ", ".join(str(list(shape)) for shape in sorted(shapes)[:5])
            raise ValueError(
                f"output {name!r} is a sequence of tensors of different shapes ({several}), which is not one tensor"
            )
        stacked = np.stack(found)
        return text_out(stacked) if stacked.dtype.kind in "OU" else stacked

    return convert


def map_columns(name: str, labels: Sequence[Any] | None, dtype: np.dtype[Any]) -> Convert:
    """For a list of maps from label to value, one for each row: a tensor [rows, labels] (a copy).

    Columns are in the order of ``labels``, or in that of the first row's sorted keys when that is None. The
    conversion raises ValueError when a row has other labels.
    """

    def convert(rows: Sequence[Mapping[Any, Any]]) -> Array:
        columns = labels if labels is not None else sorted(rows[0]) if rows else ()
        width = len(columns)
        array = np.empty((len(rows), width), dtype)
        for number, row in enumerate(rows):
            if len(row) != width:
                raise ValueError(f"output {name!r}: row {number} has {len(row)} classes, expected {width}")
            try:
                array[number] = [row[column] for column in columns]
            except KeyError as error:
                raise ValueError(f"output {name!r}: row {number} has no class {error}") from None
        return array

    return convert


def _objects(items: list[Any], shape: tuple[int, ...]) -> Array:
    array = np.empty(len(items), object)
    array[:] = items
    return array.reshape(shape)
