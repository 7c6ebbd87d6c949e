"""Pooling with the edges of Caffe2 and MXNet, as ONNX nodes."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.engines.nets.layers import scalar
from tensorwire.servers.engines.nets.window import Window, spatial
from tensorwire.servers.model import ModelError

__all__ = ["average_pool", "global_pool", "max_pool", "sum_pool"]


def global_pool(graph: Graph, x: str, kind: str) -> str:
    """'max', 'avg' or 'sum' over the whole image: [N, C, ...] to [N, C, 1, ...]."""
    if kind == "sum":
        return graph.add("ReduceSum", [x, graph.wholes(range(2, graph.rank(x)))], keepdims=1)
    return graph.add("GlobalMaxPool" if kind == "max" else "GlobalAveragePool", [x])


def max_pool(graph: Graph, x: str, window: Window) -> str:
    """The largest value under each window; padding never is the largest."""
    fixed = _fixed(graph, x, window)
    dtype = graph.dtype(x)
    if fixed is None or dtype.kind != "f" or _fits(fixed):
        return _pool(graph, "MaxPool", x, window, fixed)
    # ONNX wants less padding than kernel, so that no window is all padding: here it is made of least values.
    padded = _pad(graph, x, fixed, float(np.finfo(dtype).min))
    return _pool(graph, "MaxPool", padded, _unpadded(fixed))


def average_pool(graph: Graph, x: str, window: Window, *, count_padding: bool) -> str:
    """The mean under each window: of the image's values alone, or with the padding as zeros.

    Where the mode is 'ceil', what lies beyond the declared padding is never counted.
    """
    if not count_padding:
        return _pool(graph, "AveragePool", x, window, _fixed(graph, x, window), count_include_pad=0)
    if window.mode == "floor" and _fits(window):
        return _pool(graph, "AveragePool", x, window, window, count_include_pad=1)
    fixed = _fixed(graph, x, window)
    padded = _pad(graph, x, window, 0.0)
    beyond = None
    if fixed is not None:
        zeros = (0,) * len(window.kernel)
        tails = tuple(max(tail - own, 0) for tail, own in zip(fixed.tails, window.tails, strict=True))
        beyond = replace(fixed, heads=zeros, tails=tails)
    return _pool(graph, "AveragePool", padded, _unpadded(window), beyond, count_include_pad=0)


def sum_pool(graph: Graph, x: str, window: Window) -> str:
    """The sum under each window, padding as zeros."""
    fixed = _fixed(graph, x, window)
    if fixed is None:
        raise ModelError("how it pads depends on the size of the image: declare the network's inputs with their shapes")
    mean = _pool(graph, "AveragePool", _pad(graph, x, fixed, 0.0), _unpadded(fixed), count_include_pad=1)
    return graph.add("Mul", [mean, scalar(graph, math.prod(window.kernel), x)])


def _fixed(graph: Graph, x: str, window: Window) -> Window | None:
    return window.fixed(spatial(graph.sizes(x), len(window.kernel)))


def _fits(window: Window) -> bool:
    return all(pad < size for pad, size in zip(window.pads, window.extents * 2, strict=True))


def _unpadded(window: Window) -> Window:
    zeros = (0,) * len(window.kernel)
    return replace(window, heads=zeros, tails=zeros)


def _pad(graph: Graph, x: str, window: Window, value: float) -> str:
    if not any(window.pads):
        return x
    pads = [0, 0, *window.heads, 0, 0, *window.tails]
    return graph.add("Pad", [x, graph.wholes(pads), scalar(graph, value, x)])


def _pool(graph: Graph, op: str, x: str, window: Window, fixed: Window | None = None, **attributes: int) -> str:
    """``fixed`` is the window with its padding worked out; without one, ONNX Runtime does that on each image."""
    if any(size != 1 for size in window.dilations):
        raise ModelError("pooling with dilation is not supported")
    edges: dict[str, Any] = {"pads": window.pads, "ceil_mode": 1}
    if fixed is not None or window.mode == "floor":
        edges = {"pads": (fixed or window).pads}
    elif window.mode == "same":
        edges = {"auto_pad": "SAME_UPPER"}
    return graph.add(op, [x], kernel_shape=list(window.kernel), strides=list(window.strides), **edges, **attributes)
