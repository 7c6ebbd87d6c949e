"""MXNet's operators in numpy: what a symbol computes, for tests to compare with."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
from net_layers import Array, average_pool, batch_norm, conv, lrn, max_pool, softmax, steps

__all__ = ["OPERATORS", "run"]


def run(symbol: Mapping[str, Any], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The outputs of all nodes by name, with ':1' and so on for those after a node's first."""
    found: dict[str, Array] = dict(tensors)
    names = [node["name"] for node in symbol["nodes"]]
    for node in symbol["nodes"]:
        if node["op"] == "null":
            continue
        attributes = {
            name: _value(text) for key in ("attrs", "attr", "param") for name, text in node.get(key, {}).items()
        }
        sources = [f"{names[at]}:{which}" if which else names[at] for at, which, *_ in node["inputs"]]
        result = OPERATORS[node["op"]](attributes, *[found[name] for name in sources if name in found])
        results = result if isinstance(result, tuple) else (result,)
        for which, array in enumerate(results):
            found[f"{node['name']}:{which}" if which else node["name"]] = array
    return found


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _convolution(a: Any, x: Array, w: Array, b: Array | None = None) -> Array:
    return conv(
        x,
        w,
        None if a.get("no_bias") else b,
        a.get("stride", (1, 1)),
        tuple(a.get("pad", (0, 0))) * 2,
        a.get("dilate", (1, 1)),
        a.get("num_group", 1),
    )


def _pooling(a: Any, x: Array) -> Array:
    kind = a.get("pool_type", "max")
    if a.get("global_pool"):
        return np.asarray({"max": np.max, "avg": np.mean, "sum": np.sum}[kind](x, (2, 3), keepdims=True))
    kernel, strides, pads = a["kernel"], a.get("stride", (1, 1)), a.get("pad", (0, 0))
    up = a.get("pooling_convention") == "full"
    out = [steps(x.shape[2 + i], kernel[i], strides[i], pads[i], pads[i], up=up) for i in (0, 1)]
    if kind == "max":
        return max_pool(x, kernel, strides, pads, out)
    if kind == "avg" and not a.get("count_include_pad", True):
        return average_pool(x, kernel, strides, pads, out)
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[0]), (pads[1], pads[1])))
    mean = average_pool(padded, kernel, strides, (0, 0), out)
    if kind == "avg":
        return mean
    return _sums(padded, kernel, strides, out)


def _sums(x: Array, kernel: Any, strides: Any, out: Any) -> Array:
    y = np.zeros((*x.shape[:2], *out), x.dtype)
    for i in range(out[0]):
        for j in range(out[1]):
            rows, columns = i * strides[0], j * strides[1]
            y[:, :, i, j] = x[:, :, rows : rows + kernel[0], columns : columns + kernel[1]].sum((2, 3))
    return y


def _fully_connected(a: Any, x: Array, w: Array, b: Array | None = None) -> Array:
    x = x.reshape(len(x), -1) if a.get("flatten", True) else x
    y = x @ w.T
    return y if a.get("no_bias") or b is None else y + b


def _batch_norm(a: Any, x: Array, gamma: Array, beta: Array, mean: Array, variance: Array) -> Array:
    gamma = np.ones_like(gamma) if a.get("fix_gamma", True) else gamma
    axis = a.get("axis", 1)
    y = batch_norm(np.moveaxis(x, axis, 1), gamma, beta, mean, variance, a.get("eps", 1e-3))
    return np.moveaxis(y, 1, axis)


def _act(kind: str, x: Array) -> Array:
    return {
        "relu": lambda: np.maximum(x, 0),
        "sigmoid": lambda: 1 / (1 + np.exp(-x)),
        "tanh": lambda: np.tanh(x),
        "softrelu": lambda: np.log1p(np.exp(x)),
        "softsign": lambda: x / (1 + np.abs(x)),
    }[kind]()


def _leaky(a: Any, x: Array, gamma: Array | None = None) -> Array:
    kind, slope = a.get("act_type", "leaky"), np.float32(a.get("slope", 0.25))
    if kind == "prelu":
        assert gamma is not None
        slope = gamma.reshape(-1, *[1] * (x.ndim - 2))
    if kind == "elu":
        return np.where(x > 0, x, slope * np.expm1(x))
    return np.where(x > 0, x, x * slope)


def _reduce(function: Any) -> Any:
    def reduce(a: Any, x: Array) -> Array:
        axis, keep = a.get("axis", ()), a.get("keepdims", False)
        axes = tuple(n % x.ndim for n in (axis if isinstance(axis, tuple) else (axis,)))
        if a.get("exclude") and axes:
            axes = tuple(n for n in range(x.ndim) if n not in axes)
        y = np.asarray(function(x, axes or None, keepdims=keep))
        return y.reshape(1) if not axes and not keep else y

    return reduce


def _l2(a: Any, x: Array) -> Array:
    axes = {"instance": tuple(range(1, x.ndim)), "channel": (1,), "spatial": tuple(range(2, x.ndim))}
    return x / np.sqrt((x * x).sum(axes[a.get("mode", "instance")], keepdims=True) + a.get("eps", 1e-10))


def _softmax_output(a: Any, x: Array, *label: Array) -> Array:
    if a.get("multi_output"):
        return softmax(x, 1)
    if a.get("preserve_shape"):
        return softmax(x, -1)
    return softmax(x.reshape(len(x), -1)).reshape(x.shape)


def _split(a: Any, x: Array) -> tuple[Array, ...]:
    parts = np.split(x, a["num_outputs"], a.get("axis", 1))
    return tuple(part.squeeze(a.get("axis", 1)) if a.get("squeeze_axis") else part for part in parts)


OPERATORS: dict[str, Any] = {
    "Convolution": _convolution,
    "Pooling": _pooling,
    "FullyConnected": _fully_connected,
    "BatchNorm": _batch_norm,
    "Activation": lambda a, x: _act(a["act_type"], x),
    "LeakyReLU": _leaky,
    "LRN": lambda a, x: lrn(x, a["nsize"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("knorm", 2)),
    "L2Normalization": _l2,
    "SoftmaxOutput": _softmax_output,
    "SoftmaxActivation": lambda a, x: softmax(x, 1) if a.get("mode") == "channel" else _softmax_output({}, x),
    "softmax": lambda a, x: softmax(x / a.get("temperature", 1), a.get("axis", -1)),
    "log_softmax": lambda a, x: np.log(softmax(x, a.get("axis", -1))),
    "Dropout": lambda a, x: x,
    "Flatten": lambda a, x: x.reshape(len(x), -1),
    "Reshape": lambda a, x: x.reshape([x.shape[i] if n == 0 else n for i, n in enumerate(a["shape"])]),
    "transpose": lambda a, x: x.transpose(a.get("axes")),
    "SwapAxis": lambda a, x: x.swapaxes(a["dim1"], a["dim2"]),
    "expand_dims": lambda a, x: np.expand_dims(x, a["axis"]),
    "squeeze": lambda a, x: x.squeeze(a.get("axis")),
    "Concat": lambda a, *xs: np.concatenate(xs, a.get("dim", 1)),
    "stack": lambda a, *xs: np.stack(xs, a.get("axis", 0)),
    "SliceChannel": _split,
    "slice_axis": lambda a, x: np.take(x, range(x.shape[a["axis"]])[slice(a["begin"], a["end"])], a["axis"]),
    "clip": lambda a, x: np.clip(x, a["a_min"], a["a_max"]),
    "mean": _reduce(np.mean),
    "sum": _reduce(np.sum),
    "max": _reduce(np.max),
    "elemwise_add": lambda a, x, y: x + y,
    "_Plus": lambda a, x, y: x + y,
    "broadcast_add": lambda a, x, y: x + y,
    "broadcast_sub": lambda a, x, y: x - y,
    "broadcast_mul": lambda a, x, y: x * y,
    "broadcast_div": lambda a, x, y: x / y,
    "add_n": lambda a, *xs: sum(xs),
    "_plus_scalar": lambda a, x: x + np.float32(a["scalar"]),
    "_minus_scalar": lambda a, x: x - np.float32(a["scalar"]),
    "_rminus_scalar": lambda a, x: np.float32(a["scalar"]) - x,
    "_mul_scalar": lambda a, x: x * np.float32(a["scalar"]),
    "_div_scalar": lambda a, x: x / np.float32(a["scalar"]),
    "_rdiv_scalar": lambda a, x: np.float32(a["scalar"]) / x,
    "square": lambda a, x: x * x,
    "BlockGrad": lambda a, x: x,
    "LinearRegressionOutput": lambda a, x, *label: x,
    "LogisticRegressionOutput": lambda a, x, *label: _act("sigmoid", x),
}
