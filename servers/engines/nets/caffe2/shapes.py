"""Operators that move numbers without changing them: concatenation, reshaping, transposing, padding, reducing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.batch import check_batch
from tensorwire.servers.engines.nets.caffe2.layer import Convert, Layer
from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.graph import shape_of
from tensorwire.servers.model import ModelError

__all__ = ["SHAPES"]

_ELEMENT = {1: 1, 2: 6, 3: 2, 5: 9, 6: 2, 7: 3, 8: 4, 9: 5, 10: 7, 12: 10, 13: 11}
"""The number of an ONNX type by Caffe2's number of it."""


def _channel_axis(layer: Layer, axis: str = "axis") -> int:
    if axis in layer.arguments:
        return layer.arguments.whole(axis)
    return -1 if layer.channels_last else 1


def _concat(layer: Layer) -> Sequence[str]:
    graph, axis = layer.graph, _channel_axis(layer)
    parts: Sequence[str] = layer.inputs
    if layer.arguments.whole("add_axis"):
        parts = [graph.add("Unsqueeze", [x, graph.wholes([axis])]) for x in parts]
    y = parts[0] if len(parts) == 1 else graph.add("Concat", parts, axis=axis)
    if not layer.wanted[1:2] or not layer.wanted[1]:
        return [y]
    if axis < 0:
        axis += graph.rank(y)
    lengths = [graph.add("Shape", [x], start=axis, end=axis + 1) for x in parts]
    joined = lengths[0] if len(lengths) == 1 else graph.add("Concat", lengths, axis=0)
    return [y, graph.add("Cast", [joined], to=_ELEMENT[2])]


def _split(layer: Layer) -> Sequence[str]:
    graph, axis, count = layer.graph, _channel_axis(layer), len(layer.op.outputs)
    if len(layer.inputs) == 2:
        given = graph.value(layer.inputs[1])
        if given is None:
            raise ModelError("its lengths are computed by the net, which is not supported")
        lengths = [int(n) for n in given.ravel()]
    else:
        lengths = layer.arguments.wholes("split")
    if not lengths:
        sizes = graph.sizes(layer.x)
        length = sizes[axis] if sizes is not None and -len(sizes) <= axis < len(sizes) else None
        if length is None or length % count:
            raise ModelError(f"axis {axis} of {shape_of(sizes)} cannot be split in {count} equal parts")
        lengths = [length // count] * count
    if len(lengths) != count:
        raise ModelError(f"{len(lengths)} lengths for {count} outputs")
    return graph.add_several("Split", [layer.x, graph.wholes(lengths)], count, axis=axis)


def _reshape(layer: Layer) -> Sequence[str]:
    graph = layer.graph
    if len(layer.inputs) == 2:
        given = graph.value(layer.inputs[1])
        shape = None if given is None else [int(n) for n in given.ravel()]
        target = graph.add("Cast", [layer.inputs[1]], to=_ELEMENT[10]) if shape is None else graph.wholes(shape)
    else:
        if "shape" not in layer.arguments:
            raise ModelError("argument shape is missing")
        shape = layer.arguments.wholes("shape")
        target = graph.wholes(shape)
    if shape is not None:
        check_batch(graph, layer.x, shape)
    y = graph.add("Reshape", [layer.x, target])
    return [y, graph.add("Shape", [layer.x])] if layer.wanted[1:2] and layer.wanted[1] else [y]


def _flatten(layer: Layer) -> str:
    return layers.flatten(layer.graph, layer.x, layer.arguments.whole("axis", 1))


def _flatten_to_vector(layer: Layer) -> str:
    return layer.graph.add("Reshape", [layer.x, layer.graph.wholes([-1])])


def _squeeze(layer: Layer) -> str:
    return layer.graph.add("Squeeze", [layer.x, layer.graph.wholes(_dims(layer))])


def _expand(layer: Layer) -> str:
    return layer.graph.add("Unsqueeze", [layer.x, layer.graph.wholes(_dims(layer))])


def _dims(layer: Layer) -> list[int]:
    dims = sorted(set(layer.arguments.wholes("dims")))
    if not dims or dims[0] < 0:
        raise ModelError(f"dims {dims} are not numbers of dimensions")
    return dims


def _transpose(layer: Layer) -> str:
    axes = layer.arguments.wholes("axes")
    if sorted(axes) != list(range(len(axes))):
        raise ModelError(f"axes {axes} are not a permutation")
    return layer.graph.add("Transpose", [layer.x], **({"perm": axes} if axes else {}))


def _to_channels_first(layer: Layer) -> str:
    return layer.graph.add("Transpose", [layer.x], perm=[0, 3, 1, 2])


def _to_channels_last(layer: Layer) -> str:
    return layer.graph.add("Transpose", [layer.x], perm=[0, 2, 3, 1])


def _channel_shuffle(layer: Layer) -> str:
    graph, group = layer.graph, layer.arguments.whole("group", 1)
    if layer.channels_last:
        raise ModelError("has the order NHWC, which Caffe2 does not support here")
    sizes = graph.sizes(layer.x)
    if sizes is None or len(sizes) != 4 or sizes[1] is None or group < 1 or sizes[1] % group:
        raise ModelError(f"group {group} does not divide the channels of {shape_of(sizes)}")
    inner = sizes[1] // group
    split = graph.add("Reshape", [layer.x, graph.wholes([0, group, inner, -1])])
    turned = graph.add("Transpose", [split], perm=[0, 2, 1, 3])
    shape = graph.add("Shape", [layer.x])
    return graph.declare(graph.add("Reshape", [turned, shape], allowzero=1), sizes)


def _pad_image(layer: Layer) -> str:
    arguments, graph = layer.arguments, layer.graph
    pads = arguments.wholes("pads") or [arguments.whole("pad")] * 4
    if "pad_t" in arguments:
        pads = [arguments.whole(side) for side in ("pad_t", "pad_l", "pad_b", "pad_r")]
    mode = arguments.text("mode", "constant")
    if mode not in ("constant", "reflect", "edge") or len(pads) != 4 or not all(0 <= pad <= 2**20 for pad in pads):
        raise ModelError(f"mode {printable(mode)} with pads {pads} is not supported")
    x = layer.channels_first()
    around = graph.wholes([0, 0, *pads[:2], 0, 0, *pads[2:]])
    value = layers.scalar(graph, arguments.number("value"), x)
    return layer.ordered(graph.add("Pad", [x, around, *([value] if mode == "constant" else [])], mode=mode))


def _resize(layer: Layer) -> str:
    arguments, graph = layer.arguments, layer.graph
    scales = np.array([1, 1, arguments.number("height_scale", 1), arguments.number("width_scale", 1)], np.float32)
    if not (np.isfinite(scales).all() and scales.min() > 0 and scales.max() <= 1024):
        raise ModelError(f"scales {scales[2:].tolist()} are not supported")
    return layer.ordered(
        graph.add(
            "Resize",
            [layer.channels_first(), "", graph.constant(scales, "scales")],
            mode="nearest",
            nearest_mode="floor",
            coordinate_transformation_mode="asymmetric",
        )
    )


def _cast(layer: Layer) -> str:
    number = layer.arguments.whole("to", 1)
    if number not in _ELEMENT:
        raise ModelError(f"type {number} is not one of numbers")
    return layer.graph.add("Cast", [layer.x], to=_ELEMENT[number])


def _shape(layer: Layer) -> str:
    return layer.graph.add("Shape", [layer.x])


def _reduce(op: str) -> Convert:
    def convert(layer: Layer) -> str:
        axes = layer.arguments.wholes("axes")
        keep = layer.arguments.whole("keepdims", 1)
        inputs = [layer.x, layer.graph.wholes(axes)] if axes else [layer.x]
        return layer.graph.add(op, inputs, keepdims=keep)

    return taking(1, 1, convert)


def _arg_max(layer: Layer) -> str:
    return layer.graph.add(
        "ArgMax",
        [layer.x],
        axis=layer.arguments.whole("axis", -1),
        keepdims=layer.arguments.whole("keepdims", 1),
    )


SHAPES: dict[str, Convert] = {
    "Concat": taking(1, None, _concat),
    "DepthConcat": taking(1, None, _concat),
    "Split": taking(1, 2, _split),
    "DepthSplit": taking(1, 2, _split),
    "Reshape": taking(1, 2, _reshape),
    "Flatten": taking(1, 1, _flatten),
    "FlattenToVec": taking(1, 1, _flatten_to_vector),
    "Squeeze": taking(1, 1, _squeeze),
    "ExpandDims": taking(1, 1, _expand),
    "Transpose": taking(1, 1, _transpose),
    "NHWC2NCHW": taking(1, 1, _to_channels_first),
    "NCHW2NHWC": taking(1, 1, _to_channels_last),
    "ChannelShuffle": taking(1, 1, _channel_shuffle),
    "PadImage": taking(1, 1, _pad_image),
    "ResizeNearest": taking(1, 1, _resize),
    "Cast": taking(1, 1, _cast),
    "Shape": taking(1, 1, _shape),
    "ReduceMean": _reduce("ReduceMean"),
    "ReduceSum": _reduce("ReduceSum"),
    "ReduceMax": _reduce("ReduceMax"),
    "ReduceMin": _reduce("ReduceMin"),
    "ArgMax": taking(1, 1, _arg_max),
}
"""Operators by type."""
