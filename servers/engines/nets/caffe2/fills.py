"""The weights of a Caffe2 network: the init net's operators, which fill blobs, carried out with numpy."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tensorwire.servers.engines.nets.caffe2.netdef import Net, Operator
from tensorwire.servers.engines.nets.files import LARGEST, listed, naming, printable
from tensorwire.servers.model import Array, ModelError

__all__ = ["fill"]

# caffe2.TensorProto.DataType
_TYPES = {1: "f4", 2: "i4", 3: "u1", 5: "?", 6: "u1", 7: "i1", 8: "u2", 9: "i2", 10: "i8", 12: "f2", 13: "f8"}
_GIVEN = {
    "GivenTensorFill": "f4",
    "GivenTensorDoubleFill": "f8",
    "GivenTensorBoolFill": "?",
    "GivenTensorIntFill": "i4",
    "GivenTensorInt16Fill": "i2",
    "GivenTensorInt64Fill": "i8",
    "GivenTensorByteStringToUInt8Fill": "u1",
}
_RANDOM = ("XavierFill", "MSRAFill", "GaussianFill", "UniformFill")
_MOST_DIMENSIONS = 16
_LARGEST_CONSTANT = 2**26


def fill(net: Net, *, random_weights: bool = False) -> dict[str, Array]:
    """The blobs that an init net makes, by name.

    Fills with random numbers are refused unless ``random_weights``; they are then drawn from the distributions that
    Caffe2 draws from (https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/operators/filler_op.h), the same numbers
    each time. No more is allocated than the net has values for, but for constants of up to 64 MiB in all and random
    weights. Raises ModelError.
    """
    makers: dict[str, Callable[[Operator, tuple[int, ...]], Array]] = dict.fromkeys(_GIVEN, _given)
    budget = _Budget()
    makers["ConstantFill"] = lambda op, shape: _constant(op, shape, budget)
    drawn = [op for op in net.operators if op.type in _RANDOM]
    if drawn and not random_weights:
        names = listed([op.where for op in drawn])
        raise ModelError(
            f"weights would be random: {names}; train the network and save its weights, or set option random_weights=1"
        )
    generator = np.random.default_rng(1)
    makers.update(dict.fromkeys(_RANDOM, lambda op, shape: _random(op, shape, generator, budget)))
    unknown = [op for op in net.operators if op.type not in (*makers, "Copy")]
    if unknown:
        raise ModelError(
            f"operators that make no weights, or are not supported: {listed([op.where for op in unknown])}"
        )
    blobs: dict[str, Array] = {}
    for op in net.operators:
        with naming(op.where):
            _run(op, makers, blobs)
    return blobs


class _Budget:
    """Bytes that may still be allocated for values which are not in the file."""

    def __init__(self) -> None:
        self.constant = _LARGEST_CONSTANT
        self.random = LARGEST

    def take(self, kind: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
        nbytes = math.prod(shape) * dtype.itemsize
        left = getattr(self, kind) - nbytes
        if left < 0:
            raise ModelError(f"shape {list(shape)} {dtype} needs {nbytes:,} bytes, which is too much for a {kind} fill")
        setattr(self, kind, left)


def _run(
    op: Operator, makers: dict[str, Callable[[Operator, tuple[int, ...]], Array]], blobs: dict[str, Array]
) -> None:
    if len(op.outputs) != 1:
        raise ModelError(f"fills one blob, {len(op.outputs)} are named")
    if op.type == "Copy":
        if len(op.inputs) != 1 or op.inputs[0] not in blobs:
            raise ModelError("copies a blob that was not filled before")
        blobs[op.outputs[0]] = blobs[op.inputs[0]]
        return
    if op.inputs:
        raise ModelError("takes its shape from another blob, which is not supported")
    shape = tuple(op.arguments.wholes("shape"))
    if len(shape) > _MOST_DIMENSIONS or any(size < 0 for size in shape):
        raise ModelError(f"{printable(str(list(shape)))} is not a shape")
    blobs[op.outputs[0]] = makers[op.type](op, shape)


def _given(op: Operator, shape: tuple[int, ...]) -> Array:
    dtype = np.dtype(_GIVEN[op.type])
    if op.type == "GivenTensorByteStringToUInt8Fill":
        texts = op.arguments.texts("values")
        values: Array = np.frombuffer(texts[0] if texts else op.arguments.data("values"), np.uint8)
    else:
        values = op.arguments.array("values")
    if op.type == "GivenTensorFill" and "dtype" in op.arguments:
        dtype = _dtype(op.arguments.whole("dtype"))
    if values.size != math.prod(shape):
        raise ModelError(f"{values.size} values for the shape {list(shape)}")
    return values.astype(dtype, copy=False).reshape(shape)


def _constant(op: Operator, shape: tuple[int, ...], budget: _Budget) -> Array:
    arguments = op.arguments
    if "dtype" in arguments:
        dtype = _dtype(arguments.whole("dtype"))
    else:
        whole = "value" in arguments and not arguments.is_float("value")
        dtype = np.dtype("i8" if whole else "f4")
    value = arguments.number("value") if dtype.kind == "f" else arguments.whole("value")
    budget.take("constant", shape, dtype)
    if dtype.kind in "iu" and not np.iinfo(dtype).min <= value <= np.iinfo(dtype).max:
        raise ModelError(f"value {value} is no {dtype}")
    return np.full(shape, value, dtype)


def _random(op: Operator, shape: tuple[int, ...], generator: np.random.Generator, budget: _Budget) -> Array:
    dtype = np.dtype(np.float32)
    budget.take("random", shape, dtype)
    size = math.prod(shape)
    if not size:
        return np.empty(shape, dtype)
    if op.type in ("XavierFill", "UniformFill"):
        low, high = op.arguments.number("min", 0), op.arguments.number("max", 1)
        if op.type == "XavierFill":
            high = math.sqrt(3 / (size / shape[0])) if shape else 1.0
            low = -high
        return (generator.random(shape, dtype) * dtype.type(high - low) + dtype.type(low)).astype(dtype, copy=False)
    mean, deviation = op.arguments.number("mean", 0), op.arguments.number("std", 1)
    if op.type == "MSRAFill":
        mean, deviation = 0.0, math.sqrt(2 / (size / shape[1])) if len(shape) > 1 else 1.0
    return generator.standard_normal(shape, dtype) * dtype.type(deviation) + dtype.type(mean)


def _dtype(number: int) -> np.dtype[Any]:
    if number not in _TYPES:
        raise ModelError(f"type {number} is not one of numbers")
    return np.dtype(_TYPES[number])
