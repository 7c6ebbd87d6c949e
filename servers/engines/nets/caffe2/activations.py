"""Operators that work on each number alone, and softmax."""

from __future__ import annotations

import numpy as np

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.caffe2.layer import Convert, Layer
from tensorwire.servers.model import ModelError

__all__ = ["ACTIVATIONS"]

_LARGEST = float(np.finfo(np.float32).max)


def _plain(op: str) -> Convert:
    return taking(1, 1, lambda layer: layer.graph.add(op, [layer.x]))


def _with_alpha(op: str, default: float) -> Convert:
    return taking(1, 1, lambda layer: layer.graph.add(op, [layer.x], alpha=layer.arguments.number("alpha", default)))


def _prelu(layer: Layer) -> str:
    graph, x = layer.graph, layer.channels_first()
    slope = graph.value(layer.inputs[1])
    if slope is None:
        raise ModelError("its slope is computed by the net, which is not supported")
    if slope.size != 1:
        layers.check_shape(graph, layer.inputs[1], ((graph.sizes(x) or (None, None))[1],), layer.weights()[0])
    spread = layers.per_channel(graph, slope, x, "slope")
    return layer.ordered(graph.add("PRelu", [x, spread]))


def _clip(layer: Layer) -> str:
    graph, arguments = layer.graph, layer.arguments
    low = layers.scalar(graph, arguments.number("min", -_LARGEST), layer.x)
    high = layers.scalar(graph, arguments.number("max", _LARGEST), layer.x)
    return graph.add("Clip", [layer.x, low, high])


def _relu6(layer: Layer) -> str:
    low, high = (layers.scalar(layer.graph, number, layer.x) for number in (0.0, 6.0))
    return layer.graph.add("Clip", [layer.x, low, high])


def _softmax(layer: Layer) -> str:
    return layers.softmax(layer.graph, layer.x, layer.arguments.whole("axis", 1))


def _scale(layer: Layer) -> str:
    factor = layers.scalar(layer.graph, layer.arguments.number("scale", 1.0), layer.x)
    return layer.graph.add("Mul", [layer.x, factor])


def _passed(layer: Layer) -> str:
    return layer.x


def _dropout(layer: Layer) -> str:
    # Outside of training it passes its input, whatever the file says of is_test.
    return layer.x


ACTIVATIONS: dict[str, Convert] = {
    "Relu": _plain("Relu"),
    "Relu6": taking(1, 1, _relu6),
    "Sigmoid": _plain("Sigmoid"),
    "Tanh": _plain("Tanh"),
    "Softsign": _plain("Softsign"),
    "Softplus": _plain("Softplus"),
    "Exp": _plain("Exp"),
    "Log": _plain("Log"),
    "Abs": _plain("Abs"),
    "Sqrt": _plain("Sqrt"),
    "Negative": _plain("Neg"),
    "LeakyRelu": _with_alpha("LeakyRelu", 0.01),
    "Elu": _with_alpha("Elu", 1.0),
    "PRelu": taking(2, 2, _prelu),
    "Clip": taking(1, 1, _clip),
    "Softmax": taking(1, 1, _softmax),
    "Scale": taking(1, 1, _scale),
    "Dropout": taking(1, 1, _dropout),
    "Copy": taking(1, 1, _passed),
    "Alias": taking(1, 1, _passed),
    "StopGradient": taking(1, 1, _passed),
    "CopyCPUToGPU": taking(1, 1, _passed),
    "CopyGPUToCPU": taking(1, 1, _passed),
    "EnsureCPUOutput": taking(1, 1, _passed),
    "EnsureDense": taking(1, 1, _passed),
}
"""Operators by type."""
