"""ONNX Runtime's names of types, and what each is on the wire.

The names are those of ``onnxruntime.NodeArg.type``: tensor(float), seq(map(int64,tensor(float))), ...
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

__all__ = ["ML_NUMBERS", "TEXT", "dtype_of", "is_map_sequence", "item_type", "refusal"]

TEXT = "tensor(string)"

_DTYPES = {
    "tensor(float)": "f4",
    "tensor(double)": "f8",
    "tensor(float16)": "f2",
    "tensor(int8)": "i1",
    "tensor(int16)": "i2",
    "tensor(int32)": "i4",
    "tensor(int64)": "i8",
    "tensor(uint8)": "u1",
    "tensor(uint16)": "u2",
    "tensor(uint32)": "u4",
    "tensor(uint64)": "u8",
    "tensor(bool)": "?",
    TEXT: "O",
}
_ML_DTYPES = {
    "tensor(bfloat16)": "bfloat16",
    "tensor(float8e4m3fn)": "float8_e4m3fn",
    "tensor(float8e5m2)": "float8_e5m2",
}
ML_NUMBERS = {"tensor(bfloat16)": 16, "tensor(float8e4m3fn)": 17, "tensor(float8e5m2)": 19}
"""Types that numpy has not, with their numbers in onnx.TensorProto.DataType."""

_MAP_SEQUENCE = re.compile(r"seq\(map\((int64|string),(tensor\(\w+\))\)\)")
_SEQUENCE = re.compile(r"seq\((tensor\(\w+\))\)")


def dtype_of(kind: str) -> np.dtype[Any] | None:
    """The dtype of a tensor type, ml_dtypes' for those that numpy has not; None when it cannot be sent."""
    if kind in _ML_DTYPES:
        import ml_dtypes

        dtype: np.dtype[Any] = np.dtype(getattr(ml_dtypes, _ML_DTYPES[kind]))
        return dtype
    return np.dtype(_DTYPES[kind]) if kind in _DTYPES else None


def item_type(kind: str) -> str | None:
    """The tensor type of what a sequence holds, or of the values of its maps; None when it is neither."""
    found = _SEQUENCE.fullmatch(kind)
    if found:
        return found[1]
    found = _MAP_SEQUENCE.fullmatch(kind)
    return found[2] if found else None


def is_map_sequence(kind: str) -> bool:
    """A list of maps from class to value, one for each row, as a classifier's ZipMap gives it."""
    return _MAP_SEQUENCE.fullmatch(kind) is not None


def refusal(kind: str) -> str:
    """Why a type cannot be sent, and what the model's maker can do."""
    if kind.startswith("optional("):
        return f"is {kind}, which may be nothing: give it a tensor type (OptionalGetElement, a default) in the model"
    if kind.startswith("tensor("):
        return f"is a {kind}, which cannot be sent as a tensor: add a Cast to a wider type to the model"
    return f"is a {kind}, which cannot be sent as a tensor"
