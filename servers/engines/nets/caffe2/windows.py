"""Operators that slide a window: convolutions and poolings.

Arguments and arithmetic: https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/operators/conv_pool_op_base.h, and
for legacy_pad https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/proto/caffe2_legacy.proto.
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.caffe2.layer import Convert, Layer
from tensorwire.servers.engines.nets.caffe2.netdef import Arguments
from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.engines.nets.pooling import average_pool, global_pool, max_pool
from tensorwire.servers.engines.nets.window import Window
from tensorwire.servers.model import ModelError

__all__ = ["WINDOWS"]

_NOTSET, _VALID, _SAME, _CAFFE = range(4)  # legacy_pad
_SIDES = ("pad_t", "pad_l", "pad_b", "pad_r")


def _window(arguments: Arguments) -> Window:
    kernel = _sizes(arguments, "kernel", "kernels", 0, ()) or [0, 0]
    rank = len(kernel)
    pads = arguments.wholes("pads") or [0] * (2 * rank)
    if "pad" in arguments:
        pads = [arguments.whole("pad")] * 4
    elif all(side in arguments for side in _SIDES):
        pads = [arguments.whole(side) for side in _SIDES]
    if len(pads) != 2 * rank:
        raise ModelError(f"pads {pads} do not fit a kernel of {rank} dimensions")
    legacy = arguments.whole("legacy_pad", _NOTSET)
    if legacy not in (_NOTSET, _VALID, _SAME, _CAFFE):
        raise ModelError(f"legacy_pad {legacy} is not one of 0 to 3")
    if legacy in (_VALID, _SAME) and any(pads):
        raise ModelError(f"pads {pads} beside legacy_pad {legacy}, which says how to pad")
    heads, tails = pads[:rank], pads[rank:]
    dilations = _sizes(arguments, "dilation", "dilations", 1, kernel)
    if legacy in (_SAME, _CAFFE) and any(size != 1 for size in dilations):
        raise ModelError(f"dilations {dilations} beside legacy_pad {legacy}")
    return Window(
        kernel=tuple(kernel),
        strides=tuple(_sizes(arguments, "stride", "strides", 1, kernel)),
        dilations=tuple(dilations),
        heads=tuple(heads),
        tails=tuple(heads if legacy == _CAFFE else tails),
        mode={_SAME: "same", _CAFFE: "ceil"}.get(legacy, "floor"),
        clip=legacy == _CAFFE,
    )


def _sizes(arguments: Arguments, one: str, several: str, default: int, kernel: Sequence[int]) -> list[int]:
    """Sizes of two dimensions given as one number or two, or of any number of dimensions given as a list."""
    found = arguments.wholes(several)
    if one in arguments:
        return [arguments.whole(one)] * 2
    if f"{one}_h" in arguments and f"{one}_w" in arguments:
        return [arguments.whole(f"{one}_h"), arguments.whole(f"{one}_w")]
    return found or [default] * len(kernel)


def _filters(layer: Layer) -> str:
    """The weights [M, C / group, *kernel]; in the order NHWC they are stored [M, *kernel, C / group]."""
    weight = layer.inputs[1]
    if not layer.channels_last:
        return weight
    rank = layer.graph.rank(weight)
    return layer.graph.add("Transpose", [weight], perm=[0, rank - 1, *range(1, rank - 1)])


def _bias(layer: Layer) -> str:
    return layer.inputs[2] if len(layer.inputs) > 2 else ""


def _conv(layer: Layer) -> str:
    window = _window(layer.arguments)
    group = layer.arguments.whole("group", 1)
    x = layer.channels_first()
    names = layer.weights()
    return layer.ordered(layers.convolution(layer.graph, x, _filters(layer), _bias(layer), window, group, names))


def _conv_transpose(layer: Layer) -> str:
    if layer.arguments.whole("legacy_pad"):
        raise ModelError("legacy_pad is not supported here")
    window = _window(layer.arguments)
    extra = _sizes(layer.arguments, "adj", "adjs", 0, window.kernel)
    group = layer.arguments.whole("group", 1)
    x, weight, bias = layer.channels_first(), _filters(layer), _bias(layer)
    y = layers.transposed_convolution(layer.graph, x, weight, bias, window, group, extra, layer.weights())
    return layer.ordered(y)


def _max(graph: Graph, x: str, window: Window) -> str:
    return max_pool(graph, x, window)


def _average(graph: Graph, x: str, window: Window) -> str:
    return average_pool(graph, x, window, count_padding=False)


def _pool(layer: Layer, kind: str) -> str:
    x = layer.channels_first()
    if layer.arguments.whole("global_pooling"):
        return layer.ordered(global_pool(layer.graph, x, kind))
    window = _window(layer.arguments)
    if any(pad >= size for pad, size in zip(window.pads, window.kernel * 2, strict=True)):
        raise ModelError(f"pads {window.pads} are not smaller than the kernel {list(window.kernel)}")
    return layer.ordered((_max if kind == "max" else _average)(layer.graph, x, window))


WINDOWS: dict[str, Convert] = {
    "Conv": taking(2, 3, _conv),
    "ConvTranspose": taking(2, 3, _conv_transpose),
    "MaxPool": taking(1, 1, lambda layer: _pool(layer, "max")),
    "AveragePool": taking(1, 1, lambda layer: _pool(layer, "avg")),
}
"""Operators by type. ``Conv1D``, ``MaxPool2D`` and such are the same operators with a rank in the name."""

for _name, _convert in list(WINDOWS.items()):
    if _name != "ConvTranspose":
        WINDOWS.update({f"{_name}{rank}D": _convert for rank in (1, 2, 3)})
