"""Layers that Caffe2 and MXNet share, as ONNX nodes. Each takes and gives names of tensors of a graph."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorwire.servers.engines.nets.graph import Graph, shape_of
from tensorwire.servers.engines.nets.window import Window, spatial
from tensorwire.servers.model import Array, ModelError

__all__ = [
    "batch_norm",
    "check_shape",
    "convolution",
    "dense",
    "flatten",
    "normalized",
    "per_channel",
    "scalar",
    "softmax",
    "transposed_convolution",
]


def check_shape(graph: Graph, tensor: str, expected: Sequence[int | None], name: str) -> None:
    """Raises ModelError that names the weight, its shape and the expected one; None in it is any size."""
    sizes = graph.sizes(tensor)
    if sizes is None:
        return
    fits = len(sizes) == len(expected) and all(
        a is None or b is None or a == b for a, b in zip(sizes, expected, strict=True)
    )
    if not fits:
        raise ModelError(f"{name} has the shape {shape_of(sizes)}, expected {shape_of(expected)}")


def scalar(graph: Graph, number: float, like: str) -> str:
    """A constant of rank 0 with the dtype of the tensor ``like``."""
    return graph.constant(np.asarray(number, graph.dtype(like)), "number")


def convolution(graph: Graph, x: str, weight: str, bias: str, window: Window, group: int, names: Sequence[str]) -> str:
    """[N, C, ...] by weights [M, C / group, *kernel] and bias [M] ("" for none); ``names`` are theirs, for messages."""
    sizes = graph.sizes(x)
    image = spatial(sizes, len(window.kernel))
    channels = sizes[1] if sizes else None
    if group < 1 or (channels is not None and channels % group):
        raise ModelError(f"group {group} does not divide {channels} channels")
    inner = None if channels is None else channels // group
    check_shape(graph, weight, (None, inner, *window.kernel), names[0])
    outer = (graph.sizes(weight) or (None,))[0]
    if outer is not None and outer % group:
        raise ModelError(f"group {group} does not divide the {outer} filters of {names[0]}")
    if bias:
        check_shape(graph, bias, (outer,), names[1])
    fixed = window.fixed(image)
    if fixed is None and window.mode != "same":
        raise ModelError("how it pads depends on the size of the image: declare the network's inputs with their shapes")
    padding = {"auto_pad": "SAME_UPPER"} if fixed is None else {"pads": fixed.pads}
    return graph.add(
        "Conv",
        [x, weight, *([bias] if bias else [])],
        kernel_shape=list(window.kernel),
        strides=list(window.strides),
        dilations=list(window.dilations),
        group=group,
        **padding,
    )


def transposed_convolution(
    graph: Graph,
    x: str,
    weight: str,
    bias: str,
    window: Window,
    group: int,
    extra: Sequence[int],
    names: Sequence[str],
) -> str:
    """[N, C, ...] by weights [C, M / group, *kernel]; ``extra`` pixels are added at the end of each dimension."""
    sizes = graph.sizes(x)
    spatial(sizes, len(window.kernel))
    check_shape(graph, weight, (sizes[1] if sizes else None, None, *window.kernel), names[0])
    filters = (graph.sizes(weight) or (None, None))[1]
    if bias:
        check_shape(graph, bias, (None if filters is None else filters * group,), names[1])
    return graph.add(
        "ConvTranspose",
        [x, weight, *([bias] if bias else [])],
        kernel_shape=list(window.kernel),
        strides=list(window.strides),
        dilations=list(window.dilations),
        group=group,
        pads=window.pads,
        output_padding=list(extra),
    )


def flatten(graph: Graph, x: str, axis: int = 1) -> str:
    """Two dimensions: those before ``axis`` and the rest; a tensor that has them already is passed."""
    sizes = graph.sizes(x)
    if sizes is not None and len(sizes) == 2 and axis in (1, -1):
        return x
    return graph.add("Flatten", [x], axis=axis)


def dense(graph: Graph, x: str, weight: str, bias: str, names: Sequence[str], *, transposed: bool = True) -> str:
    """Rows [M, K] by weights [N, K] ([K, N] when not ``transposed``) plus bias [N] ("" for none): [M, N]."""
    inner = (graph.sizes(x) or (None, None))[1]
    check_shape(graph, weight, (None, inner) if transposed else (inner, None), names[0])
    outer = (graph.sizes(weight) or (None, None))[0 if transposed else 1]
    if bias:
        check_shape(graph, bias, (outer,), names[1])
    return graph.add("Gemm", [x, weight, *([bias] if bias else [])], transB=int(transposed))


def softmax(graph: Graph, x: str, axis: int = 1) -> str:
    """Over all dimensions from ``axis`` on, taken together: the shape stays."""
    sizes = graph.sizes(x)
    if sizes is not None:
        start = axis + len(sizes) if axis < 0 else axis
        if not 0 <= start < len(sizes):
            raise ModelError(f"axis {axis} is not one of a tensor {shape_of(sizes)}")
        if all(size == 1 for size in sizes[start + 1 :]):
            return graph.add("Softmax", [x], axis=start)
    rows = graph.add("Softmax", [graph.add("Flatten", [x], axis=axis)], axis=1)
    found = graph.add("Reshape", [rows, graph.add("Shape", [x])], allowzero=1)
    return graph.declare(found, sizes) if sizes is not None else found


def batch_norm(graph: Graph, x: str, weights: Sequence[str], epsilon: float, names: Sequence[str]) -> str:
    """(x - mean) / sqrt(variance + epsilon) * scale + bias; ``weights`` are scale, bias, mean, variance, all [C]."""
    channels = (graph.sizes(x) or (None, None))[1]
    for weight, name in zip(weights, names, strict=True):
        check_shape(graph, weight, (channels,), name)
    return graph.add("BatchNormalization", [x, *weights], epsilon=epsilon)


def normalized(graph: Graph, x: str, axes: Sequence[int], epsilon: float, *, inside: bool) -> str:
    """x over its Euclidean norm along ``axes``; epsilon is added under the root, or is the norm's least value."""
    squares = graph.add("ReduceSum", [graph.add("Mul", [x, x]), graph.wholes(axes)], keepdims=1)
    if inside:
        squares = graph.add("Add", [squares, scalar(graph, epsilon, x)])
    norm = graph.add("Sqrt", [squares])
    if not inside:
        norm = graph.add("Max", [norm, scalar(graph, epsilon, x)])
    return graph.add("Div", [x, norm])


def per_channel(graph: Graph, array: Array, x: str, hint: str) -> str:
    """One number for each channel [C] as a constant that broadcasts over [N, C, ...]."""
    return graph.constant(array.reshape(-1, *[1] * (graph.rank(x) - 2)), hint)
