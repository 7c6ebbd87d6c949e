"""Caffe2's operators in numpy: what a NetDef computes, for tests to compare with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from net_layers import Array, average_pool, batch_norm, conv, lrn, max_pool, softmax, steps

__all__ = ["OPERATORS", "run"]


def run(net: Any, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """All blobs after the net has run."""
    found = dict(blobs)
    for op in net.op:
        arguments = {argument.name: _value(argument) for argument in op.arg}
        results = OPERATORS[op.type](arguments, *[found[name] for name in op.input])
        results = results if isinstance(results, tuple) else (results,)
        found.update(zip(op.output, results, strict=False))
    return found


def _value(argument: Any) -> Any:
    for kind in ("ints", "floats"):
        if getattr(argument, kind):
            return list(getattr(argument, kind))
    return next((getattr(argument, kind) for kind in ("i", "f", "s") if argument.HasField(kind)), [])


def _pair(arguments: Any, name: str, default: int) -> list[int]:
    if name in arguments:
        return [arguments[name]] * 2
    if f"{name}_h" in arguments:
        return [arguments[f"{name}_h"], arguments[f"{name}_w"]]
    return arguments.get(f"{name}s", [default] * 2)


def _pads(arguments: Any) -> list[int]:
    if "pad" in arguments:
        return [arguments["pad"]] * 4
    if "pad_t" in arguments:
        return [arguments[f"pad_{side}"] for side in "tlbr"]
    return arguments.get("pads", [0] * 4)


def _edges(arguments: Any, x: Array, kernel: list[int]) -> tuple[list[int], list[int]]:
    """Padding before, and the count of windows, along both sides; as Caffe2's ComputeSizeAndPad says."""
    strides, dilations, pads = _pair(arguments, "stride", 1), _pair(arguments, "dilation", 1), _pads(arguments)
    heads, counts = [], []
    for axis in (0, 1):
        size, head, tail = x.shape[2 + axis], pads[axis], pads[2 + axis]
        extent = (kernel[axis] - 1) * dilations[axis] + 1
        legacy = arguments.get("legacy_pad", 0)
        if legacy == 1:
            head = tail = 0
        if legacy == 2:
            count = -(-size // strides[axis])
            head = max((count - 1) * strides[axis] + extent - size, 0) // 2
        elif legacy == 3:
            count = steps(size, extent, strides[axis], head, head, up=True, clip=True)
        else:
            count = steps(size, extent, strides[axis], head, tail)
        heads.append(head)
        counts.append(count)
    return heads, counts


def _last(arguments: Any) -> bool:
    return bool(arguments.get("order", b"NCHW") == b"NHWC")


def _ordered(function: Any) -> Any:
    """A function of [N, C, H, W] for either order."""

    def call(arguments: Any, x: Array, *rest: Array) -> Array:
        if not _last(arguments):
            return function(arguments, x, *rest)
        return function(arguments, x.transpose(0, 3, 1, 2), *rest).transpose(0, 2, 3, 1)

    return call


def _conv(arguments: Any, x: Array, w: Array, b: Array | None = None) -> Array:
    if _last(arguments):
        w = w.transpose(0, 3, 1, 2)
    strides, dilations = _pair(arguments, "stride", 1), _pair(arguments, "dilation", 1)
    kernel = list(w.shape[2:])
    heads, counts = _edges(arguments, x, kernel)
    tails = [
        max((counts[a] - 1) * strides[a] + (kernel[a] - 1) * dilations[a] + 1 - x.shape[2 + a] - heads[a], 0)
        for a in (0, 1)
    ]
    y = conv(x, w, b, strides, [*heads, *tails], dilations, arguments.get("group", 1))
    return y[:, :, : counts[0], : counts[1]]


def _pool(arguments: Any, x: Array, pool: Any, whole: Any) -> Array:
    if arguments.get("global_pooling"):
        return np.asarray(whole(x, (2, 3), keepdims=True))
    kernel = _pair(arguments, "kernel", 0)
    return np.asarray(pool(x, kernel, _pair(arguments, "stride", 1), *_edges(arguments, x, kernel)))


def _fc(arguments: Any, x: Array, w: Array, b: Array) -> Array:
    axis = arguments.get("axis", 1)
    w = w.reshape(int(np.prod(w.shape[: arguments.get("axis_w", 1)])), -1)
    return (x.reshape(int(np.prod(x.shape[:axis])), -1) @ w.T + b).reshape(*x.shape[:axis], -1)


def _softmax(arguments: Any, x: Array) -> Array:
    axis = arguments.get("axis", 1)
    return softmax(x.reshape(int(np.prod(x.shape[:axis])), -1)).reshape(x.shape)


def _spread(arguments: Any, a: Array, b: Array) -> Array:
    axis = arguments.get("axis", -1)
    if "axis_str" in arguments:
        axis = arguments.get("order", b"NCHW").index(arguments["axis_str"])
    return b if axis == -1 else b.reshape(*b.shape, *[1] * (a.ndim - axis - b.ndim))


def _concat(arguments: Any, *xs: Array) -> tuple[Array, Array]:
    axis = arguments.get("axis", 3 if _last(arguments) else 1)
    joined = np.stack(xs, axis) if arguments.get("add_axis") else np.concatenate(xs, axis)
    lengths = [1 if arguments.get("add_axis") else x.shape[axis] for x in xs]
    return joined, np.array(lengths, np.int32)


def _reshape(arguments: Any, x: Array, shape: Array | None = None) -> tuple[Array, Array]:
    wanted = arguments["shape"] if shape is None else shape.tolist()
    wanted = [x.shape[i] if n == 0 else n for i, n in enumerate(wanted)]
    return x.reshape(wanted), np.array(x.shape)


def _split(arguments: Any, x: Array, lengths: Array | None = None) -> tuple[Array, ...]:
    axis = arguments.get("axis", 1)
    split = lengths.tolist() if lengths is not None else arguments["split"]
    return tuple(np.split(x, np.cumsum(split)[:-1], axis))


def _shuffle(arguments: Any, x: Array) -> Array:
    group = arguments["group"]
    return x.reshape(len(x), group, -1, *x.shape[2:]).swapaxes(1, 2).reshape(x.shape)


def _prelu(arguments: Any, x: Array, w: Array) -> Array:
    slope = w.reshape(-1) if w.size == 1 else w.reshape(-1, *[1] * (x.ndim - 2))
    return np.where(x > 0, x, x * slope)


OPERATORS: dict[str, Any] = {
    "Conv": _ordered(_conv),
    "MaxPool": _ordered(lambda a, x: _pool(a, x, max_pool, np.max)),
    "AveragePool": _ordered(lambda a, x: _pool(a, x, average_pool, np.mean)),
    "SpatialBN": _ordered(lambda a, x, *w: batch_norm(x, *w, a.get("epsilon", 1e-5))),
    "LRN": _ordered(lambda a, x: lrn(x, a["size"], a["alpha"], a["beta"], a.get("bias", 1.0))),
    "PRelu": _ordered(_prelu),
    "Relu": lambda a, x: np.maximum(x, 0),
    "Relu6": lambda a, x: np.clip(x, 0, 6),
    "LeakyRelu": lambda a, x: np.where(x > 0, x, x * np.float32(a.get("alpha", 0.01))),
    "Elu": lambda a, x: np.where(x > 0, x, a.get("alpha", 1.0) * np.expm1(x)),
    "Sigmoid": lambda a, x: 1 / (1 + np.exp(-x)),
    "Tanh": lambda a, x: np.tanh(x),
    "Clip": lambda a, x: np.clip(x, a.get("min", -np.inf), a.get("max", np.inf)),
    "Scale": lambda a, x: x * a.get("scale", 1.0),
    "FC": _fc,
    "FCTransposed": lambda a, x, w, b: x @ w + b,
    "Softmax": _softmax,
    "Concat": _concat,
    "Split": _split,
    "Sum": lambda a, *xs: sum(xs),
    "Add": lambda a, x, y: x + _spread(a, x, y),
    "Sub": lambda a, x, y: x - _spread(a, x, y),
    "Mul": lambda a, x, y: x * _spread(a, x, y),
    "Div": lambda a, x, y: x / _spread(a, x, y),
    "Dropout": lambda a, x: x,
    "Copy": lambda a, x: x,
    "StopGradient": lambda a, x: x,
    "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[: a.get("axis", 1)])), -1),
    "Reshape": _reshape,
    "Squeeze": lambda a, x: np.squeeze(x, tuple(a["dims"])),
    "ExpandDims": lambda a, x: np.expand_dims(x, tuple(a["dims"])),
    "Transpose": lambda a, x: x.transpose(a.get("axes")),
    "NHWC2NCHW": lambda a, x: x.transpose(0, 3, 1, 2),
    "NCHW2NHWC": lambda a, x: x.transpose(0, 2, 3, 1),
    "ChannelShuffle": _shuffle,
    "PadImage": lambda a, x: np.pad(x, ((0, 0), (0, 0), (a["pads"][0], a["pads"][2]), (a["pads"][1], a["pads"][3]))),
    "ResizeNearest": lambda a, x: x.repeat(int(a["height_scale"]), 2).repeat(int(a["width_scale"]), 3),
    "Normalize": lambda a, x: x / np.sqrt((x * x).sum(a.get("axis", -1), keepdims=True)),
}
