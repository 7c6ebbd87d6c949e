"""Whether two answers to one request are the same."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tensorwire.servers.model import Array

__all__ = ["difference"]

_PIECE = 1 << 20  # elements that are compared at a time, so that large tensors need little memory


def difference(served: Mapping[str, Array], other: Mapping[str, Array], tolerance: float) -> str:
    """What is different between the tensors of two answers, in words; '' when they are the same.

    Numbers may differ by ``tolerance`` x max(1, |served value|), NaN equals NaN; texts and booleans must be equal.
    """
    if served.keys() != other.keys():
        return f"outputs {', '.join(served)} and {', '.join(other)}"
    for name, array in served.items():
        found = _of_arrays(array, other[name], tolerance)
        if found:
            return f"output {name!r}: {found}"
    return ""


def _of_arrays(served: Array, other: Array, tolerance: float) -> str:
    if served.shape != other.shape:
        return f"shape {list(served.shape)} and {list(other.shape)}"
    if served.dtype != other.dtype:
        return f"{served.dtype} and {other.dtype}"
    left, right = served.reshape(-1), other.reshape(-1)
    exact = served.dtype.kind in "OSUb"
    largest = 0.0
    unequal = 0
    for start in range(0, left.size, _PIECE):
        a, b = left[start : start + _PIECE], right[start : start + _PIECE]
        if exact:
            unequal += int(np.count_nonzero(a != b))
            continue
        wide = np.complex128 if a.dtype.kind == "c" else np.float64
        a, b = a.astype(wide), b.astype(wide)
        with np.errstate(invalid="ignore", over="ignore"):
            apart = np.abs(a - b)
            apart[(a == b) | (np.isnan(a) & np.isnan(b))] = 0.0
            apart[np.isnan(apart)] = np.inf  # a number and NaN
            size = np.abs(a)
            wrong = apart > tolerance * np.where(np.isfinite(size), np.maximum(size, 1.0), 1.0)
        if wrong.any():
            unequal += int(np.count_nonzero(wrong))
            largest = max(largest, float(apart[wrong].max()))
    if not unequal:
        return ""
    by = "" if exact else f", by up to {largest:.3g}"
    return f"{unequal:,} of {left.size:,} values differ{by}"
