"""Requests in TensorFlow Serving's PredictionLog messages.

The messages are those of tensorflow_serving/apis/prediction_log.proto, predict.proto and model.proto
(https://github.com/tensorflow/serving), and of tensorflow/core/framework/tensor.proto, tensor_shape.proto and
types.proto (https://github.com/tensorflow/tensorflow), as far as a request can use them here.
"""

from __future__ import annotations

from functools import cache
from math import prod
from typing import Any

import ml_dtypes
import numpy as np

from tensorwire._messages import Request
from tensorwire.servers.model import Array, quoted
from tensorwire.servers.repository import messages
from tensorwire.servers.repository.messages import (
    BOOL,
    BYTES,
    DOUBLE,
    FLOAT,
    INT32,
    INT64,
    MESSAGE,
    OPTIONAL,
    REPEATED,
    STRING,
    UINT32,
    UINT64,
    Fields,
)

__all__ = ["read_prediction"]

_MESSAGES: dict[str, Fields] = {
    "Dim": (("size", 1, OPTIONAL, INT64, ""),),
    "Shape": (("dim", 2, REPEATED, MESSAGE, "Dim"), ("unknown_rank", 3, OPTIONAL, BOOL, "")),
    "Tensor": (
        ("dtype", 1, OPTIONAL, INT32, ""),
        ("tensor_shape", 2, OPTIONAL, MESSAGE, "Shape"),
        ("tensor_content", 4, OPTIONAL, BYTES, ""),
        ("float_val", 5, REPEATED, FLOAT, ""),
        ("double_val", 6, REPEATED, DOUBLE, ""),
        ("int_val", 7, REPEATED, INT32, ""),
        ("string_val", 8, REPEATED, BYTES, ""),
        ("scomplex_val", 9, REPEATED, FLOAT, ""),
        ("int64_val", 10, REPEATED, INT64, ""),
        ("bool_val", 11, REPEATED, BOOL, ""),
        ("dcomplex_val", 12, REPEATED, DOUBLE, ""),
        ("half_val", 13, REPEATED, INT32, ""),
        ("uint32_val", 16, REPEATED, UINT32, ""),
        ("uint64_val", 17, REPEATED, UINT64, ""),
    ),
    # A map is a repeated message with a key and a value.
    "Input": (("key", 1, OPTIONAL, STRING, ""), ("value", 2, OPTIONAL, MESSAGE, "Tensor")),
    "ModelSpec": (("name", 1, OPTIONAL, STRING, ""), ("signature_name", 3, OPTIONAL, STRING, "")),
    "PredictRequest": (
        ("model_spec", 1, OPTIONAL, MESSAGE, "ModelSpec"),
        ("inputs", 2, REPEATED, MESSAGE, "Input"),
        ("output_filter", 3, REPEATED, STRING, ""),
    ),
    "PredictLog": (("request", 1, OPTIONAL, MESSAGE, "PredictRequest"),),
    "PredictionLog": (("predict_log", 6, OPTIONAL, MESSAGE, "PredictLog"),),
}

_TYPES: dict[int, tuple[Any, str]] = {
    1: (np.float32, "float_val"),
    2: (np.float64, "double_val"),
    3: (np.int32, "int_val"),
    4: (np.uint8, "int_val"),
    5: (np.int16, "int_val"),
    6: (np.int8, "int_val"),
    7: (object, "string_val"),
    8: (np.complex64, "scomplex_val"),
    9: (np.int64, "int64_val"),
    10: (np.bool_, "bool_val"),
    14: (ml_dtypes.bfloat16, "half_val"),
    17: (np.uint16, "int_val"),
    18: (np.complex128, "dcomplex_val"),
    19: (np.float16, "half_val"),
    22: (np.uint32, "uint32_val"),
    23: (np.uint64, "uint64_val"),
}
"""TensorFlow's DataType -> the dtype, and the field that holds values one by one."""

_MOST_FILLED = 1 << 24  # elements that a few bytes may stand for


def read_prediction(record: bytes) -> Request | None:
    """The request of a PredictionLog; None when it logs anything but a Predict call (a classification, a regression).

    Numbers may be read-only views of the message's own copy. Raises ValueError for bytes that are no such message, and
    for a tensor that contradicts itself.
    """
    from google.protobuf.message import DecodeError

    log = _classes()["PredictionLog"]()
    try:
        log.ParseFromString(record)
    except DecodeError as error:
        raise ValueError(f"no PredictionLog: {error}") from None
    if not log.HasField("predict_log"):
        return None
    request = log.predict_log.request
    inputs = {}
    for entry in request.inputs:
        try:
            inputs[entry.key] = _array(entry.value)
        except (ValueError, OverflowError) as error:
            raise ValueError(f"input {quoted(entry.key)}: {error}") from None
    return Request(inputs, list(request.output_filter), signature=request.model_spec.signature_name)


def _array(tensor: Any) -> Array:
    if tensor.dtype not in _TYPES:
        raise ValueError(f"tensors of TensorFlow's type {tensor.dtype} are not supported")
    kind, field = _TYPES[tensor.dtype]
    dtype = np.dtype(kind)
    if tensor.tensor_shape.unknown_rank:
        raise ValueError("its rank is unknown")
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if len(shape) > 32 or any(size < 0 for size in shape):
        raise ValueError(f"the shape {list(shape)[:33]} is no tensor's")
    size = prod(shape)
    content: bytes = tensor.tensor_content
    if content:
        if dtype.hasobject:
            raise ValueError("strings are expected in string_val, not in tensor_content")
        if len(content) != size * dtype.itemsize:
            needed = size * dtype.itemsize
            raise ValueError(f"shape {list(shape)} {dtype} needs {needed:,} bytes, has {len(content):,}")
        return np.frombuffer(content, dtype.newbyteorder("<")).reshape(shape).astype(dtype, copy=False)
    return _filled(_values(getattr(tensor, field), dtype), size, dtype).reshape(shape)


def _values(values: Any, dtype: np.dtype[Any]) -> Array:
    if dtype.kind == "c":
        if len(values) % 2:
            raise ValueError(f"{len(values)} numbers are no pairs of real and imaginary parts")
        return np.array(values, dtype.char.lower()).view(dtype)
    if dtype in (np.float16, ml_dtypes.bfloat16):
        return np.array(values, np.uint16).view(dtype)
    return np.array(values, dtype)


def _filled(values: Array, size: int, dtype: np.dtype[Any]) -> Array:
    """The last value stands for all that follow, and none at all for zeros."""
    if len(values) > size:
        raise ValueError(f"{len(values):,} values for {size:,} elements")
    if len(values) == size:
        return values
    if size > _MOST_FILLED:
        raise ValueError(f"{len(values):,} values for {size:,} elements; at most {_MOST_FILLED:,} are filled up")
    fill: Any = values[-1] if len(values) else (b"" if dtype.hasobject else 0)
    array = np.empty(size, dtype)
    array.fill(fill)  # np.full would go by way of NumPy's own bytes, which lose NULs at their end
    array[: len(values)] = values
    return array


@cache
def _classes() -> dict[str, Any]:
    return messages.classes(messages.declare("tensorwire.prediction", _MESSAGES))
