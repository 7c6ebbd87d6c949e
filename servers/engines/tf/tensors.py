"""Arrays into TensorFlow and back, over the same memory wherever TensorFlow can use it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorwire._copies import count_received
from tensorwire.servers.model import Array, RequestError

__all__ = ["ALIGNMENT", "Feed", "Take", "array_dtype", "feed", "take"]

ALIGNMENT = 64
"""Bytes: TensorFlow's kernels read whole vector registers, and end the process over a tensor that lies otherwise
(EIGEN_MAX_ALIGN_BYTES, https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/framework/tensor.h).
"""

Feed = Callable[[Array], Any]
Take = Callable[[Any], Array]

# Types without a counterpart in DLPack as numpy and TensorFlow have it travel as integers of the same size.
_BITS = {"bfloat16": "uint16"}
_QUANTIZED = {"qint8": "int8", "quint8": "uint8", "qint32": "int32"}
_PLAIN = frozenset(
    ["float16", "float32", "float64", "bool", "complex64", "complex128"]
    + [f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)]
)
_USABLE = 0x0001 | 0x0100 | 0x0400  # numpy's flags C_CONTIGUOUS, ALIGNED and WRITEABLE


def array_dtype(kind: Any) -> np.dtype[Any] | None:
    """The dtype of arrays for TensorFlow's, None for what is no tensor of numbers or text (resources, variants)."""
    name: str = kind.name
    if name == "string":
        return np.dtype(object)
    if name in _BITS:
        import ml_dtypes

        found: np.dtype[Any] = np.dtype(getattr(ml_dtypes, name))
        return found
    name = _QUANTIZED.get(name, name)
    return np.dtype(name) if name in _PLAIN else None


def feed(tf: Any, name: str, kind: Any) -> Feed:
    """A function from arrays to tensors of TensorFlow's dtype ``kind``.

    A tensor is a view of its array when that is C-contiguous, writable (DLPack has no sign for memory that is not) and
    at a 64-byte boundary, and keeps it alive; of other arrays it holds the one copy. Text is copied, with its NULs.
    """
    lend = tf.experimental.dlpack.from_dlpack
    if kind.name == "string":
        constant, string = tf.constant, tf.string

        def text(array: Array) -> Any:
            try:
                return constant(array if array.dtype.kind in "OU" else array.astype(object), string)
            except (ValueError, TypeError) as error:
                raise RequestError(400, f"input {name!r}: not text: {error}") from None

        return text
    bits = _BITS.get(kind.name) or _QUANTIZED.get(kind.name)
    if bits is None:
        return lambda array: lend(_usable(array).__dlpack__())
    bitcast, as_bits = tf.bitcast, np.dtype(bits)
    return lambda array: bitcast(lend(_usable(array).view(as_bits).__dlpack__()), kind)


def take(tf: Any, kind: Any) -> Take:
    """A function from tensors of TensorFlow's dtype ``kind`` to arrays: read-only views, which keep the tensor's memory
    alive. Text becomes an object array of bytes, a copy.
    """
    bits = _BITS.get(kind.name) or _QUANTIZED.get(kind.name)
    if bits is None:
        return lambda tensor: np.asarray(memoryview(tensor))
    bitcast, integers = tf.bitcast, tf.dtypes.as_dtype(bits)
    dtype: Any = array_dtype(kind)
    return lambda tensor: np.asarray(memoryview(bitcast(tensor, integers))).view(dtype)


def _usable(array: Array) -> Array:
    """The array itself when TensorFlow can work on its memory, or a copy that it can work on."""
    if (
        array.flags.num & _USABLE == _USABLE
        and not array.__array_interface__["data"][0] % ALIGNMENT
        and array.dtype.isnative
    ):
        return array
    block = np.empty(array.nbytes + ALIGNMENT, np.uint8)
    start = -block.__array_interface__["data"][0] % ALIGNMENT
    copy: Array = block[start : start + array.nbytes].view(array.dtype.newbyteorder("=")).reshape(array.shape)
    copy[...] = array
    count_received(array.nbytes)
    return copy
