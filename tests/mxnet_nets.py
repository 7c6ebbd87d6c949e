"""MXNet networks for tests: a symbol that grows node by node, its random weights, and both as files."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from net_layers import Array

__all__ = ["Net", "params"]

_TYPES = ("f4", "f8", "f2", "u1", "i4", "i1", "i8")


class Net:
    """Nodes of a symbol; ``x`` is the node made last, by its name."""

    def __init__(self, channels: int = 3, key: str = "attrs") -> None:
        self.random = np.random.default_rng(0)
        self.nodes: list[dict[str, Any]] = []
        self.weights: dict[str, Array] = {}
        self.channels = channels
        self.key = key
        self.x = self.variable("data")

    def variable(self, name: str, **attributes: Any) -> str:
        return self._node("null", name, (), attributes)

    def weight(self, name: str, array: Array) -> str:
        self.weights[name] = array.astype(np.float32)
        return self.variable(name)

    def add(self, op: str, inputs: Sequence[str] | None = None, name: str = "", **attributes: Any) -> str:
        """A node that reads others, by default the last one; 'name:1' is a node's second output."""
        self.x = self._node(op, name or f"{op.lower()}{len(self.nodes)}", inputs or (self.x,), attributes)
        return self.x

    def _node(self, op: str, name: str, inputs: Sequence[str], attributes: Mapping[str, Any]) -> str:
        node: dict[str, Any] = {"op": op, "name": name, "inputs": [[*self.source(item), 0] for item in inputs]}
        if attributes:
            node[self.key] = {key: str(value) for key, value in attributes.items()}
        self.nodes.append(node)
        return name

    def source(self, item: str) -> tuple[int, int]:
        name, _, which = item.partition(":")
        return next(at for at, node in enumerate(self.nodes) if node["name"] == name), int(which or 0)

    def normal(self, *shape: int) -> Array:
        spread = np.sqrt(2 / max(np.prod(shape[1:]), 1))
        return (self.random.standard_normal(shape) * spread).astype(np.float32)

    def conv(self, filters: int, kernel: int, *, group: int = 1, bias: bool = True, **attributes: Any) -> str:
        x, name = self.x, f"conv{len(self.nodes)}"
        inputs = [x, self.weight(f"{name}_weight", self.normal(filters, self.channels // group, kernel, kernel))]
        if bias:
            inputs.append(self.weight(f"{name}_bias", self.random.standard_normal(filters) / 10))
        self.channels = filters
        more = {"kernel": (kernel, kernel), "num_filter": filters, "no_bias": not bias, "num_group": group}
        return self.add("Convolution", inputs, name, **more, **attributes)

    def relu(self) -> str:
        return self.add("Activation", act_type="relu")

    def norm(self, **attributes: Any) -> str:
        x, name, n = self.x, f"bn{len(self.nodes)}", self.channels
        values = {
            "gamma": self.random.uniform(0.5, 1.5, n),
            "beta": self.random.standard_normal(n) / 10,
            "moving_mean": self.random.standard_normal(n) / 10,
            "moving_var": self.random.uniform(0.5, 1.5, n),
        }
        inputs = [x, *(self.weight(f"{name}_{part}", value) for part, value in values.items())]
        return self.add("BatchNorm", inputs, name, **attributes)

    def dense(self, outputs: int, inputs: int, **attributes: Any) -> str:
        x, name = self.x, f"fc{len(self.nodes)}"
        read = [x, self.weight(f"{name}_weight", self.normal(outputs, inputs))]
        read.append(self.weight(f"{name}_bias", self.random.standard_normal(outputs) / 10))
        return self.add("FullyConnected", read, name, num_hidden=outputs, **attributes)

    def classify(self) -> str:
        """The output of a classifier in training: its label is a variable that no request brings."""
        x = self.x
        return self.add("SoftmaxOutput", [x, self.variable("softmax_label")], "softmax")

    def symbol(self, heads: Sequence[str] = ()) -> dict[str, Any]:
        arguments = [at for at, node in enumerate(self.nodes) if node["op"] == "null"]
        found = [[*self.source(item), 0] for item in heads or (self.x,)]
        return {"nodes": self.nodes, "arg_nodes": arguments, "heads": found, "attrs": {"mxnet_version": ["int", 10500]}}

    def write(self, folder: Path, name: str = "net", heads: Sequence[str] = (), epoch: int = 0) -> Path:
        """Writes NAME-symbol.json and NAME-0000.params to a folder, which is made, and returns it."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{name}-symbol.json").write_text(json.dumps(self.symbol(heads), indent=2))
        (folder / f"{name}-{epoch:04d}.params").write_bytes(params(self.weights))
        return folder


def params(weights: Mapping[str, Array], version: int = 2) -> bytes:
    """A list of named arrays, as MXNet of that format version (0 to 3) writes it."""
    parts = [struct.pack("<QQQ", 0x112, 0, len(weights))]
    for array in weights.values():
        kind = _TYPES.index(array.dtype.str[1:])
        if version >= 2:
            parts.append(struct.pack("<Ii", 0xF993FAC7 + version, 0))
        elif version == 1:
            parts.append(struct.pack("<I", 0xF993FAC8))
        sizes = "Q" if version else "I"
        parts.append(struct.pack(f"<I{array.ndim}{sizes}", array.ndim, *array.shape))
        parts.append(struct.pack("<iii", 1, 0, kind) + array.tobytes())
    names = [("aux:" if "moving" in name else "arg:") + name for name in weights]
    parts.append(struct.pack("<Q", len(names)))
    parts += [struct.pack("<Q", len(name)) + name.encode() for name in names]
    return b"".join(parts)
