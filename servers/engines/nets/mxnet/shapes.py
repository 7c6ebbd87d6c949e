"""Operators that move numbers without changing them.

The codes of Reshape: https://github.com/apache/mxnet/blob/1.9.1/src/operator/tensor/matrix_op-inl.h
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.batch import check_batch
from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.graph import shape_of
from tensorwire.servers.engines.nets.mxnet.layer import Convert, Layer
from tensorwire.servers.model import ModelError

__all__ = ["SHAPES"]

_ELEMENT = {
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
}
_LARGEST = 2**31 - 1


def _flatten(layer: Layer) -> str:
    return layers.flatten(layer.graph, layer.x)


def _reshape(layer: Layer) -> str:
    graph, attributes = layer.graph, layer.attributes
    codes = attributes.wholes("shape")
    if not codes:  # before 0.9 there was target_shape, where 0 is what is left
        target = attributes.wholes("target_shape")
        if not target or target.count(0) > 1:
            raise ModelError("has no shape")
        keep = attributes.flag("keep_highest")
        codes = tuple(0 if keep and not at else size or -1 for at, size in enumerate(target))
    if any(not -4 <= code <= _LARGEST for code in codes):
        raise ModelError(f"shape {printable(str(codes))} is not one")
    backwards = attributes.flag("reverse")
    if backwards or min(codes) < -1:
        codes = _decoded(codes, layer, backwards)
    check_batch(graph, layer.x, codes)
    return graph.add("Reshape", [layer.x, graph.wholes(codes)])


def _decoded(codes: Sequence[int], layer: Layer, backwards: bool) -> tuple[int, ...]:
    """Codes below -1, or counted from the end, as ONNX's: 0 for the size that stands there, one -1 for what is left."""
    sizes = layer.graph.sizes(layer.x)
    if sizes is None:
        raise ModelError("the shape of its input is not known: declare the network's inputs with their shapes")
    source = list(reversed(sizes)) if backwards else list(sizes)
    todo = list(reversed(codes)) if backwards else list(codes)
    found: list[int | None] = []
    at = 0
    left = iter(todo)
    for code in left:
        taken = 2 if code == -3 else len(source) - at if code == -2 else 1
        if code != -1 and code <= 0 and at + taken > len(source):
            raise ModelError(f"shape {list(codes)} does not fit {shape_of(sizes)}")
        part = source[at : at + taken]
        at += taken
        if code in (0, -2):
            found += part
        elif code == -3:
            known = [size for size in part if size is not None]
            found.append(-1 if len(known) < len(part) else math.prod(known))
        elif code == -4:
            found += _halves(part[0], next(left, 0), next(left, 0))
        else:
            found.append(code)
    if backwards:
        found.reverse()
    # A batch of any size that stays where it was is ONNX's 0, any other open size its -1.
    decoded = [0 if not axis and size is None else -1 if size is None else size for axis, size in enumerate(found)]
    if decoded.count(-1) > 1:
        raise ModelError(f"shape {list(codes)} of {shape_of(sizes)} leaves more than one size open")
    return tuple(decoded)


def _halves(size: int | None, first: int, second: int) -> list[int | None]:
    if size is None:
        return [first if first > 0 else -1, second if second > 0 else -1]
    if first == -1 and second > 0:
        first = size // second
    elif second == -1 and first > 0:
        second = size // first
    if first < 1 or second < 1 or first * second != size:
        raise ModelError(f"{size} cannot be split into {first} and {second}")
    return [first, second]


def _transpose(layer: Layer) -> str:
    axes = layer.attributes.wholes("axes")
    if sorted(axes) != list(range(len(axes))):
        raise ModelError(f"axes {list(axes)} are not a permutation")
    return layer.graph.add("Transpose", [layer.x], **({"perm": list(axes)} if axes else {}))


def _swap_axis(layer: Layer) -> str:
    rank = layer.graph.rank(layer.x)
    axes = list(range(rank))
    first, second = layer.attributes.whole("dim1"), layer.attributes.whole("dim2")
    if not (-rank <= first < rank and -rank <= second < rank):
        raise ModelError(f"dimensions {first} and {second} are not those of {shape_of(layer.graph.sizes(layer.x))}")
    axes[first], axes[second] = axes[second], axes[first]
    return layer.graph.add("Transpose", [layer.x], perm=axes)


def _expand(layer: Layer) -> str:
    return layer.graph.add("Unsqueeze", [layer.x, layer.graph.wholes([layer.attributes.whole("axis")])])


def _squeeze(layer: Layer) -> str:
    axes = layer.attributes.wholes("axis")
    return layer.graph.add("Squeeze", [layer.x, *([layer.graph.wholes(axes)] if axes else [])])


def _concat(layer: Layer) -> str:
    return layer.graph.add("Concat", layer.inputs, axis=layer.attributes.whole("dim", 1))


def _stack(layer: Layer) -> str:
    axis = layer.attributes.whole("axis")
    parts = [layer.graph.add("Unsqueeze", [x, layer.graph.wholes([axis])]) for x in layer.inputs]
    return layer.graph.add("Concat", parts, axis=axis)


def _split(layer: Layer) -> list[str]:
    graph, axis = layer.graph, layer.attributes.whole("axis", 1)
    count = layer.attributes.whole("num_outputs", 1)
    sizes = graph.sizes(layer.x)
    length = sizes[axis] if sizes is not None and -len(sizes) <= axis < len(sizes) else None
    if length is None or count < 1 or length % count:
        raise ModelError(f"axis {axis} of {shape_of(sizes)} cannot be split in {count} equal parts")
    parts = graph.add_several("Split", [layer.x, graph.wholes([length // count] * count)], count, axis=axis)
    if layer.attributes.flag("squeeze_axis"):
        parts = [graph.add("Squeeze", [part, graph.wholes([axis])]) for part in parts]
    return parts


def _slice_axis(layer: Layer) -> str:
    graph, attributes = layer.graph, layer.attributes
    ends = [graph.wholes([attributes.whole("begin")]), graph.wholes([attributes.whole("end", _LARGEST)])]
    return graph.add("Slice", [layer.x, *ends, graph.wholes([attributes.whole("axis")])])


def _pad(layer: Layer) -> str:
    graph, mode = layer.graph, layer.attributes.text("mode", "constant")
    widths = layer.attributes.wholes("pad_width")
    if mode not in ("constant", "edge", "reflect") or len(widths) % 2 or any(not 0 <= n <= 2**20 for n in widths):
        raise ModelError(f"mode {printable(mode)} with pad_width {list(widths)} is not supported")
    pads = graph.wholes([*widths[::2], *widths[1::2]])
    value = layers.scalar(graph, layer.attributes.number("constant_value"), layer.x)
    return graph.add("Pad", [layer.x, pads, *([value] if mode == "constant" else [])], mode=mode)


def _cast(layer: Layer) -> str:
    dtype = layer.attributes.text("dtype")
    if dtype not in _ELEMENT:
        raise ModelError(f"dtype {printable(dtype)} is none of {', '.join(_ELEMENT)}")
    return layer.graph.add("Cast", [layer.x], to=_ELEMENT[dtype])


SHAPES: dict[str, Convert] = {
    **dict.fromkeys(("Flatten", "flatten"), taking(1, 1, _flatten)),
    **dict.fromkeys(("Reshape", "reshape"), taking(1, 1, _reshape)),
    "transpose": taking(1, 1, _transpose),
    **dict.fromkeys(("SwapAxis", "swapaxes"), taking(1, 1, _swap_axis)),
    "expand_dims": taking(1, 1, _expand),
    "squeeze": taking(1, 1, _squeeze),
    **dict.fromkeys(("Concat", "concat"), taking(1, None, _concat)),
    "stack": taking(1, None, _stack),
    **dict.fromkeys(("SliceChannel", "split"), taking(1, 1, _split)),
    "slice_axis": taking(1, 1, _slice_axis),
    **dict.fromkeys(("Pad", "pad"), taking(1, 1, _pad)),
    **dict.fromkeys(("Cast", "cast", "amp_cast"), taking(1, 1, _cast)),
}
"""Operators by type."""
