"""Pooling with the edges of Caffe2 and MXNet, as ONNX nodes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.engines.nets.layers import scalar
from tensorwire.servers.engines.nets.window import Window, spatial
from tensorwire.servers.model import Array, ModelError

__all__ = ["average_pool", "global_pool", "max_pool", "sum_pool"]

_NEEDS_SIZE = "how it pads depends on the size of the image: declare the network's inputs with their shapes"


def global_pool(graph: Graph, x: str, kind: str) -> str:
    """'max', 'avg' or 'sum' over the whole image: [N, C, ...] to [N, C, 1, ...]."""
    if kind == "sum":
        return graph.add("ReduceSum", [x, graph.wholes(range(2, graph.rank(x)))], keepdims=1)
    return graph.add("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", [x])


def max_pool(graph: Graph, x: str, window: Window) -> str:
    """The largest value under each window; padding never is the largest."""
    fixed = _fixed(graph, x, window)
    if fixed is None:
        return _pool_of_any_size(graph, "MaxPool", x, window)
    dtype = graph.dtype(x)
    if _fits(fixed) or dtype.kind != "f":
        return _pool(graph, "MaxPool", x, fixed, pads=fixed.pads)
    # ONNX wants less padding than kernel, so that no window is all padding: here it is made of least values.
    return _pool(graph, "MaxPool", _pad(graph, x, fixed, float(np.finfo(dtype).min)), fixed, auto_pad="VALID")


def average_pool(graph: Graph, x: str, window: Window, *, count_padding: bool) -> str:
    """The mean under each window: of the image's values alone, or with the padding as zeros.

    Where the mode is 'ceil', what lies beyond the declared padding is never counted.
    """
    fixed = _fixed(graph, x, window)
    if count_padding and window.mode == "floor" and _fits(window):
        return _pool(graph, "AveragePool", x, window, pads=window.pads, count_include_pad=1)
    if not count_padding or not any(window.pads):
        if fixed is None:
            return _pool_of_any_size(graph, "AveragePool", x, window, count_include_pad=0)
        if not _fits(fixed):
            raise ModelError(f"pads {fixed.pads}: a window of {list(window.kernel)} would have nothing but padding")
        return _pool(graph, "AveragePool", x, fixed, pads=fixed.pads, count_include_pad=0)
    image = spatial(graph.sizes(x), len(window.kernel))
    if fixed is None or image is None or any(size is None for size in image):
        raise ModelError(_NEEDS_SIZE)
    counts = [_counted(window, axis, size or 0) for axis, size in enumerate(image)]
    every: Array = np.ones((), np.float64)
    for count in counts:
        every = np.multiply.outer(every, count)
    share = graph.constant((math.prod(window.kernel) / every).astype(graph.dtype(x)), "share")
    return graph.add("Mul", [_mean_with_padding(graph, x, fixed), share])


def sum_pool(graph: Graph, x: str, window: Window) -> str:
    """The sum under each window, padding as zeros."""
    fixed = _fixed(graph, x, window)
    if fixed is None:
        raise ModelError(_NEEDS_SIZE)
    mean = _mean_with_padding(graph, x, fixed)
    return graph.add("Mul", [mean, scalar(graph, math.prod(window.kernel), x)])


def _fixed(graph: Graph, x: str, window: Window) -> Window | None:
    if any(size != 1 for size in window.dilations):
        raise ModelError("pooling with dilation is not supported")
    return window.fixed(spatial(graph.sizes(x), len(window.kernel)))


def _fits(window: Window) -> bool:
    return all(pad < size for pad, size in zip(window.pads, window.kernel * 2, strict=True))


def _counted(window: Window, axis: int, size: int) -> Array:
    """How many pixels each window of a dimension covers, of the image and its declared padding."""
    kernel, stride, whole = window.kernel[axis], window.strides[axis], size + window.heads[axis] + window.tails[axis]
    steps = (whole - kernel) // stride if window.mode == "floor" else -(-(whole - kernel) // stride)
    starts = np.arange(steps + 1) * stride
    return np.minimum(starts + kernel, whole) - starts


def _mean_with_padding(graph: Graph, x: str, fixed: Window) -> str:
    # ONNX Runtime would fuse a Pad with a pooling that may pad itself, and then judge windows by other rules.
    return _pool(graph, "AveragePool", _pad(graph, x, fixed, 0.0), fixed, auto_pad="VALID", count_include_pad=0)


def _pad(graph: Graph, x: str, window: Window, value: float) -> str:
    pads = [0, 0, *window.heads, 0, 0, *window.tails]
    return graph.add("Pad", [x, graph.wholes(pads), scalar(graph, value, x)])


def _pool_of_any_size(graph: Graph, op: str, x: str, window: Window, **attributes: int) -> str:
    """ONNX Runtime works out the padding on each image. It leaves out a last window that starts in the padding."""
    if window.mode == "same":
        return _pool(graph, op, x, window, auto_pad="SAME_UPPER", **attributes)
    last = zip(window.kernel, window.heads, window.strides, strict=True)
    if not window.clip and any(pad and stride > kernel - pad for kernel, pad, stride in last):
        raise ModelError(_NEEDS_SIZE)
    return _pool(graph, op, x, window, pads=window.pads, ceil_mode=1, **attributes)


def _pool(graph: Graph, op: str, x: str, window: Window, **attributes: Any) -> str:
    return graph.add(op, [x], kernel_shape=list(window.kernel), strides=list(window.strides), **attributes)
