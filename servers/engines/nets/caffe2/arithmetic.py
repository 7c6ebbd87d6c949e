"""Operators with weights but no window (FC, SpatialBN, LRN), and arithmetic between tensors.

Broadcasting: https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/operators/elementwise_ops.h
"""

from __future__ import annotations

from collections.abc import Sequence

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.caffe2.layer import Convert, Layer
from tensorwire.servers.engines.nets.graph import shape_of
from tensorwire.servers.model import ModelError

__all__ = ["ARITHMETIC"]


def _fc(layer: Layer, transposed: bool) -> str:
    graph = layer.graph
    axis, axis_w = layer.arguments.whole("axis", 1), layer.arguments.whole("axis_w", 1)
    sizes = graph.sizes(layer.x)
    if axis < 0:
        axis += graph.rank(layer.x)
    rows = layers.flatten(graph, layer.x, axis)
    weight = layers.flatten(graph, layer.inputs[1], axis_w)
    names = layer.weights()
    y = layers.dense(graph, rows, weight, layer.inputs[2], names, transposed=transposed)
    if axis == 1:
        return y
    # The dimensions before the axis stay, the rest becomes the one of the outputs.
    outer = (graph.sizes(y) or (None, None))[1]
    if outer is None:
        raise ModelError(f"the shape of {names[0]} is not known")
    before = graph.add("Shape", [layer.x], end=axis)
    found = graph.add("Reshape", [y, graph.add("Concat", [before, graph.wholes([outer])], axis=0)])
    return graph.declare(found, (*sizes[:axis], outer)) if sizes is not None else found


def _spatial_bn(layer: Layer) -> str:
    if not layer.arguments.whole("is_test") and len(layer.op.outputs) > 1:
        raise ModelError("is one of a network in training: save the network with is_test=1")
    epsilon = layer.arguments.number("epsilon", 1e-5)
    x = layer.channels_first()
    return layer.ordered(layers.batch_norm(layer.graph, x, layer.inputs[1:5], epsilon, layer.weights()[:4]))


def _lrn(layer: Layer) -> str:
    arguments = layer.arguments
    size = arguments.whole("size")
    if size < 1 or not size % 2 or size > 2**20:
        raise ModelError(f"size {size} is not an odd number")
    y = layer.graph.add(
        "LRN",
        [layer.channels_first()],
        size=size,
        alpha=arguments.number("alpha"),
        beta=arguments.number("beta"),
        bias=arguments.number("bias", 1.0),
    )
    return layer.ordered(y)


def _sum(layer: Layer) -> str:
    return layer.x if len(layer.inputs) == 1 else layer.graph.add("Sum", layer.inputs)


def _mean(layer: Layer) -> str:
    return layer.x if len(layer.inputs) == 1 else layer.graph.add("Mean", layer.inputs)


def _binary(op: str) -> Convert:
    return taking(2, 2, lambda layer: layer.graph.add(op, [layer.x, _broadcast(layer)]))


def _broadcast(layer: Layer) -> str:
    """The second operand so that ONNX, which aligns last dimensions, spreads it as Caffe2 would."""
    graph, arguments, other = layer.graph, layer.arguments, layer.inputs[1]
    axis = arguments.whole("axis", -1)
    letter = arguments.text("axis_str")
    if letter and axis == -1:
        axis = arguments.text("order", "NCHW").find(letter)
        if len(letter) != 1 or axis < 0:
            raise ModelError(f"axis_str {letter!r} is not one of the order")
    if axis == -1:
        return other
    rank, other_rank = graph.rank(layer.x), graph.rank(other)
    missing = rank - axis - other_rank
    if axis < 0 or missing < 0:
        shapes = f"{shape_of(graph.sizes(layer.x))} and {shape_of(graph.sizes(other))}"
        raise ModelError(f"axis {axis} does not fit the shapes {shapes}")
    if not missing:
        return other
    return graph.add("Unsqueeze", [other, graph.wholes(range(other_rank, other_rank + missing))])


def _matmul(layer: Layer) -> str:
    sides: Sequence[str] = [
        layer.graph.add("Transpose", [x], perm=[1, 0]) if layer.arguments.whole(f"trans_{name}") else x
        for x, name in zip(layer.inputs, "ab", strict=True)
    ]
    return layer.graph.add("MatMul", sides)


def _normalize(layer: Layer) -> str:
    axis = layer.arguments.whole("axis", -1)
    return layers.normalized(layer.graph, layer.x, [axis], 1e-12, inside=False)


ARITHMETIC: dict[str, Convert] = {
    "FC": taking(3, 3, lambda layer: _fc(layer, True)),
    "FCTransposed": taking(3, 3, lambda layer: _fc(layer, False)),
    "SpatialBN": taking(5, 5, _spatial_bn),
    "LRN": taking(1, 1, _lrn),
    "Sum": taking(1, None, _sum),
    "Mean": taking(1, None, _mean),
    "Add": _binary("Add"),
    "Sub": _binary("Sub"),
    "Mul": _binary("Mul"),
    "Div": _binary("Div"),
    "Max": taking(1, None, lambda layer: layer.graph.add("Max", layer.inputs)),
    "Min": taking(1, None, lambda layer: layer.graph.add("Min", layer.inputs)),
    "MatMul": taking(2, 2, _matmul),
    "Normalize": taking(1, 1, _normalize),
}
"""Operators by type."""
