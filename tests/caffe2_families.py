"""Whole Caffe2 networks with random weights: the families of SqueezeNet, AlexNet, VGG, ResNet and MobileNet, small."""

from __future__ import annotations

from typing import Any

import numpy as np
from caffe2_nets import operator, predict_net
from net_layers import Array

__all__ = ["FAMILIES", "NetMaker", "weights_for"]


class NetMaker:
    """Operators and their random weights, added one after the other; ``x`` is the blob made last."""

    def __init__(self, channels: int = 3) -> None:
        self.random = np.random.default_rng(0)
        self.operators: list[Any] = []
        self.weights: dict[str, Array] = {}
        self.channels = channels
        self.x = "data"

    def add(self, kind: str, inputs: list[str] | None = None, output: str = "", **arguments: Any) -> str:
        output = output or f"{kind.lower()}{len(self.operators)}"
        self.operators.append(operator(kind, inputs or [self.x], [output], **arguments))
        self.x = output
        return output

    def normal(self, *shape: int) -> Array:
        spread = np.sqrt(2 / max(np.prod(shape[1:]), 1))
        return (self.random.standard_normal(shape) * spread).astype(np.float32)

    def weight(self, name: str, array: Array) -> str:
        self.weights[name] = array.astype(np.float32)
        return name

    def conv(
        self, filters: int, kernel: int, *, relu: bool = True, group: int = 1, bias: bool = True, **more: int
    ) -> str:
        name = f"conv{len(self.operators)}"
        inputs = [self.x, self.weight(f"{name}_w", self.normal(filters, self.channels // group, kernel, kernel))]
        if bias:
            inputs.append(self.weight(f"{name}_b", self.random.standard_normal(filters) / 10))
        self.add("Conv", inputs, name, kernel=kernel, group=group, **more)
        self.channels = filters
        if relu:
            self.add("Relu", [name], name)  # in place, as Caffe2's converters write it
        return self.x

    def norm(self) -> str:
        name, n = f"bn{len(self.operators)}", self.channels
        values = [self.random.uniform(0.5, 1.5, n), *(self.random.standard_normal((2, n)) / 10)]
        values.append(self.random.uniform(0.5, 1.5, n))
        parts = ("s", "b", "rm", "riv")
        inputs = [self.weight(f"{name}_{part}", value) for part, value in zip(parts, values, strict=True)]
        return self.add("SpatialBN", [self.x, *inputs], name, is_test=1, epsilon=1e-3)

    def dense(self, outputs: int, inputs: int) -> str:
        name = f"fc{len(self.operators)}"
        weights = [self.weight(f"{name}_w", self.normal(outputs, inputs))]
        weights.append(self.weight(f"{name}_b", self.random.standard_normal(outputs) / 10))
        return self.add("FC", [self.x, *weights], name)

    def net(self, name: str) -> Any:
        inputs = ["data", *self.weights]
        return predict_net(self.operators, inputs, [self.x], name)


def alexnet() -> NetMaker:
    net = NetMaker()
    net.conv(12, 11, stride=4)
    net.add("LRN", size=5, alpha=1e-4, beta=0.75, bias=1.0)
    net.add("MaxPool", kernel=3, stride=2)
    net.conv(16, 5, pad=2, group=2)
    net.add("LRN", size=5, alpha=1e-4, beta=0.75, bias=2.0)
    net.add("MaxPool", kernel=3, stride=2, legacy_pad=3)
    net.conv(24, 3, pad=1)
    net.conv(16, 3, pad=1, group=2)
    net.add("MaxPool", kernel=3, stride=2)
    net.dense(32, 16 * 2 * 2)
    net.add("Relu")
    net.add("Dropout", ratio=0.5, is_test=1)
    net.dense(10, 32)
    net.add("Softmax", output="prob")
    return net


def vgg() -> NetMaker:
    net = NetMaker()
    for filters in (8, 16, 16):
        for _ in range(2):
            net.conv(filters, 3, pad=1, stride=1)
        net.add("MaxPool", kernel=2, stride=2, legacy_pad=3)
    net.dense(32, 16 * 4 * 4)
    net.add("Relu")
    net.dense(10, 32)
    net.add("Softmax", output="prob")
    return net


def resnet() -> NetMaker:
    net = NetMaker()
    net.conv(8, 7, relu=False, pad=3, stride=2, bias=False)
    net.norm()
    net.add("Relu")
    net.add("MaxPool", kernel=3, stride=2, pad=1)
    for filters, stride in ((8, 1), (16, 2)):
        start, channels = net.x, net.channels
        net.conv(filters, 3, relu=False, pad=1, stride=stride, bias=False)
        net.norm()
        net.add("Relu")
        net.conv(filters, 3, relu=False, pad=1, bias=False)
        last = net.norm()
        shortcut = start
        if stride > 1:
            net.x, net.channels = start, channels
            net.conv(filters, 1, relu=False, stride=stride, bias=False)
            shortcut = net.norm()
        net.add("Sum", [last, shortcut])
        net.add("Relu")
    net.add("AveragePool", kernel=4, stride=1)
    net.dense(10, 16)
    net.add("Softmax", output="prob")
    return net


def mobilenet() -> NetMaker:
    net = NetMaker()
    net.conv(8, 3, relu=False, pad=1, stride=2, bias=False)
    net.norm()
    net.add("Clip", min=0.0, max=6.0)
    for filters, stride in ((16, 1), (24, 2), (24, 1)):
        net.conv(net.channels, 3, relu=False, pad=1, stride=stride, group=net.channels, bias=False)
        net.norm()
        net.add("Clip", min=0.0, max=6.0)
        net.conv(filters, 1, relu=False, bias=False)
        net.norm()
        net.add("Relu")
    net.add("AveragePool", kernel=0, global_pooling=1)
    net.conv(10, 1, relu=False)
    net.add("Reshape", shape=[-1, 10])
    net.add("Softmax", output="prob")
    return net


FAMILIES = {"alexnet": (alexnet, 95), "vgg": (vgg, 32), "resnet": (resnet, 32), "mobilenet": (mobilenet, 32)}
"""By name: a function that makes a NetMaker, and the side of its square image."""


def weights_for(net: Any, filters: dict[str, int], channels: int = 3) -> dict[str, Array]:
    """Random weights for a net of convolutions, poolings and concatenations; ``filters`` of each weight by name."""
    random = np.random.default_rng(7)
    depth = {"data": channels}
    weights: dict[str, Array] = {}
    for op in net.op:
        if op.type == "Conv":
            kernel = next(argument.i for argument in op.arg if argument.name == "kernel")
            shape = (filters[op.input[1]], depth[op.input[0]], kernel, kernel)
            spread = np.sqrt(2 / np.prod(shape[1:]))
            weights[op.input[1]] = (random.standard_normal(shape) * spread).astype(np.float32)
            weights[op.input[2]] = (random.standard_normal(shape[0]) / 10).astype(np.float32)
            depth[op.output[0]] = shape[0]
        else:
            depth[op.output[0]] = sum(depth[name] for name in op.input)
    return weights
