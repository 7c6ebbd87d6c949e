"""Version folders of small ONNX models that multiply their input."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["X", "write"]

X = np.arange(3, dtype=np.float32)


def write(base: Path, number: int, factor: float) -> None:
    """A version that multiplies by a factor; complete from the moment it is seen."""
    from onnx_models import ELEMENT, save, tensor

    away = base.parent / f".{base.name}-{number}"
    away.mkdir(parents=True)
    save(
        away,
        [("Mul", ["x", "factor"], ["y"])],
        [tensor("x", ELEMENT.FLOAT)],
        [tensor("y", ELEMENT.FLOAT)],
        constants={"factor": np.float32(factor)},
    )
    base.mkdir(exist_ok=True)
    away.rename(base / str(number))
