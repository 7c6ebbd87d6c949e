"""Caffe2's operators of image networks in PyTorch: a second opinion on what a NetDef computes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from net_layers import Array, steps
from torch.nn import functional as F

__all__ = ["run"]


def run(net: Any, blobs: Mapping[str, Array]) -> dict[str, Array]:
    """All blobs after the net has run, on the CPU."""
    found = {name: torch.from_numpy(array) for name, array in blobs.items()}
    with torch.inference_mode():
        for op in net.op:
            arguments = {argument.name: argument for argument in op.arg}
            found[op.output[0]] = _run(op, arguments, [found[name] for name in op.input])
    return {name: tensor.numpy() for name, tensor in found.items()}


def _run(op: Any, arguments: Any, xs: list[Any]) -> Any:
    def whole(name: str, default: int = 0) -> int:
        return arguments[name].i if name in arguments else default

    x = xs[0]
    if op.type == "Conv":
        bias = xs[2] if len(xs) > 2 else None
        return F.conv2d(x, xs[1], bias, whole("stride", 1), whole("pad"), whole("dilation", 1), whole("group", 1))
    if op.type in ("MaxPool", "AveragePool"):
        return _pool(op.type, x, whole)
    if op.type == "SpatialBN":
        return F.batch_norm(x, xs[3], xs[4], xs[1], xs[2], eps=arguments["epsilon"].f)
    if op.type == "LRN":
        return F.local_response_norm(x, whole("size"), arguments["alpha"].f, arguments["beta"].f, arguments["bias"].f)
    if op.type == "FC":
        return F.linear(x.flatten(1), xs[1], xs[2])
    if op.type == "Softmax":
        return torch.softmax(x.flatten(1), 1).reshape(x.shape)
    if op.type == "Concat":
        return torch.cat(xs, 1)
    if op.type == "Clip":
        return torch.clamp(x, arguments["min"].f, arguments["max"].f)
    if op.type == "Reshape":
        return x.reshape(tuple(arguments["shape"].ints))
    return {"Relu": torch.relu, "Dropout": lambda x: x, "Sum": lambda x: sum(xs[1:], x)}[op.type](x)


def _pool(kind: str, x: Any, whole: Any) -> Any:
    if whole("global_pooling"):
        return x.mean((2, 3), keepdim=True)
    kernel, stride, pad = whole("kernel"), whole("stride", 1), whole("pad")
    if kind == "AveragePool":
        return F.avg_pool2d(x, kernel, stride, pad, count_include_pad=False)
    tails = [pad, pad]
    if whole("legacy_pad") == 3:
        tails = [
            max((steps(size, kernel, stride, pad, pad, up=True, clip=True) - 1) * stride + kernel - size - pad, 0)
            for size in x.shape[2:]
        ]
    return F.max_pool2d(F.pad(x, (pad, tails[1], pad, tails[0]), value=-torch.inf), kernel, stride)
