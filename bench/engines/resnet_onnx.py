"""ResNet-50 with random weights as an ONNX file: ``python -m bench.engines.resnet_onnx PATH``."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from bench.engines.resnet import CLASSES, EXPANSION, IMAGE, STEM, blocks

_OPSET = 17
_IR = 8


class _Graph:
    """Nodes and weights as they are added; each method gives the name of what its node makes."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.weights: list[Any] = []
        self._random = np.random.default_rng(0)

    def weight(self, name: str, shape: tuple[int, ...], scale: float, centre: float = 0.0) -> str:
        values = self._random.standard_normal(shape, dtype=np.float32) * np.float32(scale) + np.float32(centre)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def add(self, kind: str, inputs: list[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, inputs, [name], name=name, **attributes))
        return name

    def convolve(self, x: str, name: str, taken: int, given: int, size: int, stride: int = 1) -> str:
        """A convolution and its batch normalization. He's initialization keeps the values in range."""
        weight = self.weight(f"{name}.weight", (given, taken, size, size), (2 / (taken * size * size)) ** 0.5)
        pad = size // 2
        y = self.add("Conv", [x, weight], name, kernel_shape=[size] * 2, strides=[stride] * 2, pads=[pad] * 4)
        self.weights.append(numpy_helper.from_array(np.ones(given, np.float32), f"{name}.variance"))
        norms = [self.weight(f"{name}.scale", (given,), 0.02, 1.0), self.weight(f"{name}.shift", (given,), 0.02)]
        norms += [self.weight(f"{name}.mean", (given,), 0.02), f"{name}.variance"]
        return self.add("BatchNormalization", [y, *norms], f"{name}.norm")


def make() -> Any:
    """The ModelProto: x [N, 3, 224, 224] to logits [N, 1000], float32."""
    graph = _Graph()
    y = graph.add("Relu", [graph.convolve("x", "stem", IMAGE[0], STEM, 7, 2)], "stem.relu")
    y = graph.add("MaxPool", [y], "pool", kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    for block in blocks():
        first = graph.convolve(y, f"{block.name}.1", block.taken, block.width, 1, block.stride)
        first = graph.add("Relu", [first], f"{block.name}.relu1")
        second = graph.convolve(first, f"{block.name}.2", block.width, block.width, 3)
        second = graph.add("Relu", [second], f"{block.name}.relu2")
        third = graph.convolve(second, f"{block.name}.3", block.width, block.given, 1)
        if block.project:
            y = graph.convolve(y, f"{block.name}.shortcut", block.taken, block.given, 1, block.stride)
        y = graph.add("Relu", [graph.add("Add", [third, y], f"{block.name}.sum")], f"{block.name}.relu")
    y = graph.add("Flatten", [graph.add("GlobalAveragePool", [y], "average")], "features")
    features = 512 * EXPANSION
    weight, bias = (
        graph.weight("last.weight", (CLASSES, features), features**-0.5),
        graph.weight("last.bias", (CLASSES,), 0.01),
    )
    graph.add("Gemm", [y, weight, bias], "logits", transB=1)
    made = helper.make_graph(
        graph.nodes,
        "resnet50",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", *IMAGE])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["N", CLASSES])],
        graph.weights,
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=_IR)


if __name__ == "__main__":
    model = make()
    onnx.checker.check_model(model)
    Path(sys.argv[1]).write_bytes(model.SerializeToString())
    print(json.dumps(sum(int(np.prod(weight.dims)) for weight in model.graph.initializer)))
