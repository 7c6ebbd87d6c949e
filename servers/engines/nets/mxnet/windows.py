"""Operators with weights and windows: convolution, pooling, full connection, normalization.

Attributes and arithmetic: https://github.com/apache/mxnet/tree/1.9.1/src/operator/nn
"""

from __future__ import annotations

import numpy as np

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.graph import shape_of
from tensorwire.servers.engines.nets.mxnet.layer import Convert, Layer, check_layout
from tensorwire.servers.engines.nets.mxnet.symbol import Attributes
from tensorwire.servers.engines.nets.pooling import average_pool, global_pool, max_pool, sum_pool
from tensorwire.servers.engines.nets.window import Window
from tensorwire.servers.model import ModelError

__all__ = ["WINDOWS"]


def _window(attributes: Attributes, mode: str = "floor") -> Window:
    check_layout(attributes)
    kernel = attributes.wholes("kernel")
    if not 1 <= len(kernel) <= 3:
        raise ModelError(f"kernel {list(kernel)} has not 1 to 3 dimensions")
    ones, zeros = (1,) * len(kernel), (0,) * len(kernel)
    pads = attributes.wholes("pad") or zeros
    strides = attributes.wholes("stride") or ones
    return Window(kernel, strides, attributes.wholes("dilate") or ones, pads, pads, mode)


def _bias(layer: Layer, default: bool = False) -> str:
    """The third input, unless the attribute no_bias says that there is none."""
    if layer.attributes.flag("no_bias", default):
        return ""
    if len(layer.inputs) < 3:
        raise ModelError("has no bias among its inputs, and no_bias is not set")
    return layer.inputs[2]


def _names(layer: Layer) -> list[str]:
    return [layer.weight(at) for at in range(1, len(layer.inputs))]


def _convolution(layer: Layer) -> str:
    attributes, window = layer.attributes, _window(layer.attributes)
    group, bias = attributes.whole("num_group", 1), _bias(layer)
    filters = attributes.whole("num_filter") or None
    layers.check_shape(layer.graph, layer.inputs[1], (filters, None, *window.kernel), layer.weight(1))
    return layers.convolution(layer.graph, layer.x, layer.inputs[1], bias, window, group, _names(layer))


def _deconvolution(layer: Layer) -> str:
    attributes, window = layer.attributes, _window(layer.attributes)
    if any(attributes.wholes("target_shape")):
        raise ModelError("target_shape is not supported")
    extra = attributes.wholes("adj") or (0,) * len(window.kernel)
    group, bias = attributes.whole("num_group", 1), _bias(layer, True)
    weight, names = layer.inputs[1], _names(layer)
    return layers.transposed_convolution(layer.graph, layer.x, weight, bias, window, group, extra, names)


def _pooling(layer: Layer) -> str:
    attributes, graph = layer.attributes, layer.graph
    kind = attributes.text("pool_type", "max")
    if kind not in ("max", "avg", "sum"):
        raise ModelError(f"pool_type {printable(kind)} is not supported")
    check_layout(attributes)
    if attributes.flag("global_pool"):
        return global_pool(graph, layer.x, kind)
    convention = attributes.text("pooling_convention", "valid")
    modes = {"valid": "floor", "full": "ceil", "same": "same"}
    if convention not in modes:
        raise ModelError(f"pooling_convention {printable(convention)} is not known")
    window = _window(attributes, modes[convention])
    if kind == "max":
        return max_pool(graph, layer.x, window)
    if kind == "sum":
        return sum_pool(graph, layer.x, window)
    return average_pool(graph, layer.x, window, count_padding=attributes.flag("count_include_pad", True))


def _fully_connected(layer: Layer) -> str:
    graph, bias, weight = layer.graph, _bias(layer), layer.inputs[1]
    hidden = layer.attributes.whole("num_hidden") or None
    layers.check_shape(graph, weight, (hidden, None), layer.weight(1))
    if layer.attributes.flag("flatten", True):
        return layers.dense(graph, layers.flatten(graph, layer.x), weight, bias, _names(layer))
    inner = (graph.sizes(layer.x) or (None,))[-1]
    layers.check_shape(graph, weight, (hidden, inner), layer.weight(1))
    y = graph.add("MatMul", [layer.x, graph.add("Transpose", [weight], perm=[1, 0])])
    if not bias:
        return y
    layers.check_shape(graph, bias, (hidden,), layer.weight(2))
    return graph.add("Add", [y, bias])


def _batch_norm(layer: Layer) -> str:
    attributes, graph = layer.attributes, layer.graph
    gamma, beta, mean, variance = layer.inputs[1:5]
    if attributes.flag("fix_gamma", True):
        like = graph.value(gamma) if graph.value(gamma) is not None else graph.value(mean)
        if like is None:
            raise ModelError("its weights are computed by the network, which is not supported")
        gamma = graph.constant(np.ones(like.shape, like.dtype), "gamma")
    axis, x = attributes.whole("axis", 1), layer.x
    order: list[int] = []
    if axis != 1:
        rank = graph.rank(x)
        axis += rank if axis < 0 else 0
        if not 0 < axis < rank:
            raise ModelError(f"axis {axis} is not one of channels in {shape_of(graph.sizes(x))}")
        order = [0, axis, *(at for at in range(1, rank) if at != axis)]
        x = graph.add("Transpose", [x], perm=order)
    names = [layer.weight(at) for at in range(1, 5)]
    y = layers.batch_norm(graph, x, [gamma, beta, mean, variance], attributes.number("eps", 1e-3), names)
    return graph.add("Transpose", [y], perm=[order.index(at) for at in range(len(order))]) if order else y


def _lrn(layer: Layer) -> str:
    attributes, size = layer.attributes, layer.attributes.whole("nsize")
    if size < 1 or not size % 2 or size > 2**20:
        raise ModelError(f"nsize {size} is not an odd number")
    return layer.graph.add(
        "LRN",
        [layer.x],
        size=size,
        alpha=attributes.number("alpha", 1e-4),
        beta=attributes.number("beta", 0.75),
        bias=attributes.number("knorm", 2.0),
    )


def _l2_normalization(layer: Layer) -> str:
    mode = layer.attributes.text("mode", "instance")
    if mode not in ("instance", "channel", "spatial"):
        raise ModelError(f"mode {printable(mode)} is not known")
    rank = layer.graph.rank(layer.x)
    axes = {"instance": range(1, rank), "channel": [1], "spatial": range(2, rank)}[mode]
    return layers.normalized(layer.graph, layer.x, list(axes), layer.attributes.number("eps", 1e-10), inside=True)


def _up_sampling(layer: Layer) -> str:
    scale = layer.attributes.whole("scale", 1)
    if layer.attributes.text("sample_type") != "nearest" or not 1 <= scale <= 1024:
        raise ModelError("only sample_type nearest with a scale of 1 to 1024 is supported")
    scales = layer.graph.constant(np.array([1, 1, scale, scale], np.float32), "scales")
    how = {"nearest_mode": "floor", "coordinate_transformation_mode": "asymmetric"}
    return layer.graph.add("Resize", [layer.x, "", scales], mode="nearest", **how)


WINDOWS: dict[str, Convert] = {
    **dict.fromkeys(("Convolution", "Convolution_v1"), taking(2, 3, _convolution)),
    "Deconvolution": taking(2, 3, _deconvolution),
    "Pooling": taking(1, 1, _pooling),
    "FullyConnected": taking(2, 3, _fully_connected),
    **dict.fromkeys(("BatchNorm", "BatchNorm_v1", "CuDNNBatchNorm"), taking(5, 5, _batch_norm)),
    "LRN": taking(1, 1, _lrn),
    "L2Normalization": taking(1, 1, _l2_normalization),
    "UpSampling": taking(1, 1, _up_sampling),
}
"""Operators by type."""
