"""What is measured: the arrays that every codec and every round trip is given."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]

SHAPES: dict[str, tuple[int, ...]] = {
    "4 kB": (1024,),
    "0.6 MB": (1, 3, 224, 224),
    "6 MB": (10, 3, 224, 224),
    "77 MB": (128, 3, 224, 224),
}
"""float32 tensors; from 0.6 MB up they are the batches of images of GraphPipe's published benchmark."""

FEATURES = (128, 7, 7, 512)
"""What that benchmark's model answers to 128 images: 12.85 MB of float32."""

SMALL = "1,000 tensors"
STRINGS = "10,000 strings"


def floats(shape: tuple[int, ...]) -> Array:
    """Normally distributed float32: text formats have all digits to write, nothing compresses."""
    return np.random.default_rng(0).standard_normal(shape, dtype=np.float32)


def small_tensors() -> dict[str, Array]:
    """1,000 float32 tensors of four elements."""
    values = floats((1000, 4))
    return {f"x{i}": np.array(values[i]) for i in range(1000)}


def strings() -> Array:
    """10,000 different ``bytes`` of 20 bytes each, as an object array."""
    return np.array([b"%020d" % (i * 7919) for i in range(10_000)], dtype=object)


def tensors(workload: str) -> dict[str, Array]:
    """The tensors of a workload by its name: one of SHAPES, SMALL or STRINGS."""
    if workload == SMALL:
        return small_tensors()
    if workload == STRINGS:
        return {"s": strings()}
    return {"x": floats(SHAPES[workload])}
