"""Random inputs for a model, by its metadata."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from tensorwire import TensorSpec

__all__ = ["UNDECLARED", "random_inputs", "random_tensor", "sizes"]

UNDECLARED: Final = TensorSpec("x", np.float32, (-1, 1024))
"""What is sent to a model that takes anything: 4 kB for each row."""

_TEXT_NBYTES: Final = 8


def random_inputs(
    specs: Sequence[TensorSpec], batch: int, shapes: Mapping[str, Sequence[int]]
) -> dict[str, NDArray[Any]]:
    """A tensor for each spec. ``shapes`` by name go before what the spec says; an empty name means the first.

    Without specs there is a float32 tensor for each name that has a shape, or else one of UNDECLARED.
    """
    generator = np.random.default_rng(0)
    if not specs:
        specs = [TensorSpec(name, np.float32) for name in shapes if name] or [UNDECLARED]
    found = {}
    for index, spec in enumerate(specs):
        shape = shapes.get(spec.name, shapes.get("") if index == 0 else None)
        found[spec.name] = random_tensor(generator, spec.dtype, sizes(spec.shape, batch) if shape is None else shape)
    return found


def sizes(shape: Sequence[int], batch: int) -> tuple[int, ...]:
    """A declared shape with its free dimensions filled in: the first dimension with ``batch``, others with 1.

    () means any shape, and becomes one dimension.
    """
    if not shape:
        return (batch,)
    return tuple((batch if axis == 0 else 1) if size < 0 else size for axis, size in enumerate(shape))


def random_tensor(generator: np.random.Generator, dtype: np.dtype[Any] | None, shape: Sequence[int]) -> NDArray[Any]:
    """Values that most models take: floats from 0 to 1, uint8 (images) from 0 to 255, other integers from 0 to 9
    (indices of small tables), strings of 8 letters. No dtype means float32.
    """
    shape = tuple(shape)
    if dtype is None or dtype == np.float32:
        return generator.random(shape, np.float32)
    if dtype.kind == "O":
        letters = generator.integers(97, 123, (int(np.prod(shape)), _TEXT_NBYTES), np.uint8)
        texts = np.empty(len(letters), object)
        texts[:] = [bytes(row) for row in letters]
        return texts.reshape(shape)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape, np.uint8).astype(bool)
    if dtype.kind in "iu":
        return generator.integers(0, 256 if dtype == np.uint8 else 10, shape, dtype)
    values = generator.random(shape, np.float64 if dtype.itemsize >= 8 else np.float32)
    return values.astype(dtype)
