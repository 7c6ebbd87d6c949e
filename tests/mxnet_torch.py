"""MXNet's operators of image networks in PyTorch: a second opinion on what a symbol computes."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import torch
from net_layers import Array
from torch.nn import functional as F

__all__ = ["run"]


def run(symbol: Mapping[str, Any], tensors: Mapping[str, Array]) -> dict[str, Array]:
    """The first outputs of all nodes by name, on the CPU."""
    found = {name: torch.from_numpy(array) for name, array in tensors.items()}
    with torch.inference_mode():
        for node in symbol["nodes"]:
            if node["op"] != "null":
                names = [symbol["nodes"][at]["name"] for at, *_ in node["inputs"]]
                attributes = node.get("attrs") or node.get("attr") or {}
                found[node["name"]] = _run(node["op"], attributes, [found[name] for name in names if name in found])
    return {name: tensor.numpy() for name, tensor in found.items()}


def _run(op: str, attributes: Mapping[str, str], xs: list[Any]) -> Any:
    def value(name: str, default: Any = None) -> Any:
        return ast.literal_eval(attributes[name]) if name in attributes else default

    x = xs[0]
    if op == "Convolution":
        bias = None if value("no_bias") else xs[2]
        return F.conv2d(x, xs[1], bias, value("stride", 1), value("pad", 0), 1, value("num_group", 1))
    if op == "Pooling":
        if value("global_pool"):
            return F.adaptive_avg_pool2d(x, 1)
        full = attributes.get("pooling_convention") == "full"
        return F.max_pool2d(x, value("kernel"), value("stride"), value("pad", 0), ceil_mode=full)
    if op == "BatchNorm":
        gamma = torch.ones_like(xs[1]) if value("fix_gamma", True) else xs[1]
        return F.batch_norm(x, xs[3], xs[4], gamma, xs[2], eps=value("eps", 1e-3))
    if op == "LRN":
        return F.local_response_norm(x, value("nsize"), value("alpha"), value("beta"), value("knorm"))
    if op == "FullyConnected":
        return F.linear(x.flatten(1), xs[1], xs[2])
    if op == "Concat":
        return torch.cat(xs, 1)
    if op == "clip":
        return x.clamp(value("a_min"), value("a_max"))
    return {
        "Activation": torch.relu,
        "Dropout": lambda x: x,
        "Flatten": lambda x: x.flatten(1),
        "Reshape": lambda x: x.flatten(1),
        "elemwise_add": lambda x: x + xs[1],
        "SoftmaxOutput": lambda x: torch.softmax(x, 1),
    }[op](x)
