"""Arithmetic between tensors, with numbers, and over dimensions."""

from __future__ import annotations

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.mxnet.layer import Convert, Layer
from tensorwire.servers.model import ModelError

__all__ = ["ARITHMETIC"]


def _binary(op: str) -> Convert:
    return taking(2, 2, lambda layer: layer.graph.add(op, layer.inputs))


def _with_number(op: str, number_first: bool = False) -> Convert:
    def convert(layer: Layer) -> str:
        number = layer.attributes.number("scalar")
        if layer.graph.dtype(layer.x).kind in "iu" and not number.is_integer():
            raise ModelError(f"scalar {number} beside whole numbers is not supported")
        other = layers.scalar(layer.graph, number, layer.x)
        return layer.graph.add(op, [other, layer.x] if number_first else [layer.x, other])

    return taking(1, 1, convert)


def _square(layer: Layer) -> str:
    return layer.graph.add("Mul", [layer.x, layer.x])


def _sum(layer: Layer) -> str:
    return layer.x if len(layer.inputs) == 1 else layer.graph.add("Sum", layer.inputs)


def _reduce(op: str) -> Convert:
    def convert(layer: Layer) -> str:
        graph, attributes = layer.graph, layer.attributes
        axes, keep = attributes.wholes("axis"), attributes.flag("keepdims")
        if attributes.flag("exclude") and axes:
            rank = graph.rank(layer.x)
            axes = tuple(set(range(rank)) - {axis % rank for axis in axes})
        y = graph.add(op, [layer.x, *([graph.wholes(axes)] if axes else [])], keepdims=int(keep))
        # A sum of everything is one number, in an array of one dimension.
        return graph.add("Reshape", [y, graph.wholes([1])]) if not axes and not keep else y

    return taking(1, 1, convert)


def _dot(layer: Layer) -> str:
    sides = []
    for x, name in zip(layer.inputs, ("transpose_a", "transpose_b"), strict=True):
        if layer.graph.rank(x) != 2:
            raise ModelError("only two dimensions are supported")
        sides.append(layer.graph.add("Transpose", [x], perm=[1, 0]) if layer.attributes.flag(name) else x)
    return layer.graph.add("MatMul", sides)


def _arg_max(layer: Layer) -> str:
    if "axis" not in layer.attributes:
        raise ModelError("has no axis")
    keep = int(layer.attributes.flag("keepdims"))
    found = layer.graph.add("ArgMax", [layer.x], axis=layer.attributes.whole("axis"), keepdims=keep)
    return layer.graph.add("Cast", [found], to=1)  # float32, as MXNet gives it


def _names(*names: str) -> tuple[str, ...]:
    return names


_BINARY = {
    "Add": _names("elemwise_add", "_add", "_plus", "_Plus", "_grad_add", "broadcast_add", "broadcast_plus"),
    "Sub": _names("elemwise_sub", "_sub", "_minus", "_Minus", "broadcast_sub", "broadcast_minus"),
    "Mul": _names("elemwise_mul", "_mul", "_Mul", "broadcast_mul"),
    "Div": _names("elemwise_div", "_div", "_Div", "broadcast_div"),
    "Pow": _names("_power", "_Power", "broadcast_power"),
    "Max": _names("_maximum", "_Maximum", "broadcast_maximum"),
    "Min": _names("_minimum", "_Minimum", "broadcast_minimum"),
}
_WITH_NUMBER = {
    "Add": _names("_plus_scalar", "_PlusScalar"),
    "Sub": _names("_minus_scalar", "_MinusScalar"),
    "Mul": _names("_mul_scalar", "_MulScalar"),
    "Div": _names("_div_scalar", "_DivScalar"),
    "Pow": _names("_power_scalar", "_PowerScalar"),
    "Max": _names("_maximum_scalar", "_MaximumScalar"),
    "Min": _names("_minimum_scalar", "_MinimumScalar"),
}
_NUMBER_FIRST = {
    "Sub": _names("_rminus_scalar", "_RMinusScalar"),
    "Div": _names("_rdiv_scalar", "_RDivScalar"),
    "Pow": _names("_rpower_scalar", "_RPowerScalar"),
}

ARITHMETIC: dict[str, Convert] = {
    **{name: convert for op, names in _BINARY.items() for convert in [_binary(op)] for name in names},
    **{name: convert for op, names in _WITH_NUMBER.items() for convert in [_with_number(op)] for name in names},
    **{name: convert for op, names in _NUMBER_FIRST.items() for convert in [_with_number(op, True)] for name in names},
    **dict.fromkeys(("add_n", "ElementWiseSum"), taking(1, None, _sum)),
    "square": taking(1, 1, _square),
    "mean": _reduce("ReduceMean"),
    **dict.fromkeys(("sum", "sum_axis"), _reduce("ReduceSum")),
    **dict.fromkeys(("max", "max_axis"), _reduce("ReduceMax")),
    **dict.fromkeys(("min", "min_axis"), _reduce("ReduceMin")),
    "dot": taking(2, 2, _dot),
    "argmax": taking(1, 1, _arg_max),
}
"""Operators by type."""
