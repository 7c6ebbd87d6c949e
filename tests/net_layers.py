"""Layers of image networks in plain numpy, written from their definitions, for tests to compare with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "average_pool", "batch_norm", "conv", "lrn", "max_pool", "softmax", "steps"]

Array = NDArray[Any]


def conv(
    x: Array,
    w: Array,
    b: Array | None,
    strides: Sequence[int],
    pads: Sequence[int],
    dilations: Sequence[int],
    group: int = 1,
) -> Array:
    """[N, C, H, W] by [M, C / group, kh, kw]; pads are top, left, bottom, right."""
    x = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    extent = [(k - 1) * d + 1 for k, d in zip(w.shape[2:], dilations, strict=True)]
    views = np.lib.stride_tricks.sliding_window_view(x, extent, axis=(2, 3))
    views = views[:, :, :: strides[0], :: strides[1], :: dilations[0], :: dilations[1]]
    parts = [
        np.einsum("nchwij,mcij->nmhw", views_of, w_of, optimize=True)
        for views_of, w_of in zip(np.split(views, group, 1), np.split(w, group, 0), strict=True)
    ]
    y = np.concatenate(parts, 1)
    return y if b is None else y + b[:, None, None]


def max_pool(
    x: Array, kernel: Sequence[int], strides: Sequence[int], starts: Sequence[int], out: Sequence[int]
) -> Array:
    """The first window starts at -starts; there are ``out`` windows along each side, cut at the image's edge."""
    y = np.empty((*x.shape[:2], *out), x.dtype)
    for i, j, rows, columns in _windows(x, kernel, strides, starts, out):
        y[:, :, i, j] = x[:, :, rows, columns].max((2, 3))
    return y


def average_pool(
    x: Array,
    kernel: Sequence[int],
    strides: Sequence[int],
    starts: Sequence[int],
    out: Sequence[int],
    counted: Sequence[int] = (0, 0),
) -> Array:
    """The same for means; ``counted`` pixels of padding after the image (and all before it) count as zeros."""
    y = np.empty((*x.shape[:2], *out), x.dtype)
    include = any(counted)
    for i, j, rows, columns in _windows(x, kernel, strides, starts, out):
        count = (rows.stop - rows.start) * (columns.stop - columns.start)
        if include:
            count = 1
            for axis, at in ((0, i), (1, j)):
                first = at * strides[axis] - starts[axis]
                count *= min(first + kernel[axis], x.shape[2 + axis] + counted[axis]) - first
        y[:, :, i, j] = x[:, :, rows, columns].sum((2, 3), np.float64) / count
    return y


def _windows(x: Array, kernel: Sequence[int], strides: Sequence[int], starts: Sequence[int], out: Sequence[int]) -> Any:
    for i in range(out[0]):
        for j in range(out[1]):
            ranges = []
            for axis, at in ((0, i), (1, j)):
                first = at * strides[axis] - starts[axis]
                ranges.append(slice(max(first, 0), min(first + kernel[axis], x.shape[2 + axis])))
            yield i, j, *ranges


def steps(size: int, kernel: int, stride: int, head: int, tail: int, *, up: bool = False, clip: bool = False) -> int:
    """How many windows fit, rounded down or up; ``clip``: without a last one that starts in the padding."""
    exact = (size + head + tail - kernel) / stride
    count = (math.ceil(exact) if up else math.floor(exact)) + 1
    return count - 1 if clip and head and (count - 1) * stride >= size + head else count


def softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def batch_norm(x: Array, scale: Array, bias: Array, mean: Array, var: Array, epsilon: float) -> Array:
    """Over the channels, dimension 1."""
    scale, bias, mean, var = (a.reshape(-1, *[1] * (x.ndim - 2)) for a in (scale, bias, mean, var))
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def lrn(x: Array, size: int, alpha: float, beta: float, bias: float) -> Array:
    """x / (bias + alpha / size * sum of squares of ``size`` neighbouring channels) ** beta."""
    squares = np.pad(x * x, ((0, 0), (size // 2, size // 2), (0, 0), (0, 0)))
    sums = sum(squares[:, k : k + x.shape[1]] for k in range(size))
    return x / (bias + alpha / size * sums) ** beta
