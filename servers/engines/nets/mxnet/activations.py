"""Operators that work on each number alone, softmax, and the outputs of networks that were trained."""

from __future__ import annotations

from tensorwire.servers.engines.nets import layers
from tensorwire.servers.engines.nets.arity import taking
from tensorwire.servers.engines.nets.files import printable
from tensorwire.servers.engines.nets.mxnet.layer import Convert, Layer
from tensorwire.servers.model import ModelError

__all__ = ["ACTIVATIONS", "LABELLED"]

LABELLED = frozenset(
    (
        "SoftmaxOutput",
        "Softmax",
        "LinearRegressionOutput",
        "LogisticRegressionOutput",
        "MAERegressionOutput",
        "SVMOutput",
    )
)
"""Operators whose second input is a label, which only training reads."""

_PASSED = (
    *("BlockGrad", "stop_gradient", "_copy", "identity", "make_loss", "MakeLoss"),
    *("LinearRegressionOutput", "MAERegressionOutput", "SVMOutput"),
)
_PLAIN = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "softrelu": "Softplus", "softsign": "Softsign"}


def _plain(op: str) -> Convert:
    return taking(1, 1, lambda layer: layer.graph.add(op, [layer.x]))


def _activation(layer: Layer) -> str:
    kind = layer.attributes.text("act_type")
    if kind not in _PLAIN:
        raise ModelError(f"act_type {printable(kind)} is none of {', '.join(_PLAIN)}")
    return layer.graph.add(_PLAIN[kind], [layer.x])


def _leaky_relu(layer: Layer) -> str:
    graph, attributes = layer.graph, layer.attributes
    kind, slope = attributes.text("act_type", "leaky"), attributes.number("slope", 0.25)
    if kind == "prelu":
        slopes = graph.value(layer.inputs[1]) if len(layer.inputs) == 2 else None
        if slopes is None:
            raise ModelError("its slopes are not among the weights")
        channels = (graph.sizes(layer.x) or (None, None))[1]
        if slopes.size != 1:
            layers.check_shape(graph, layer.inputs[1], (channels,), layer.weight(1))
        return graph.add("PRelu", [layer.x, layers.per_channel(graph, slopes, layer.x, "slope")])
    if kind == "rrelu":  # outside of training the slope is the mean of its bounds
        slope = (attributes.number("lower_bound", 0.125) + attributes.number("upper_bound", 0.334)) / 2
    if kind in ("leaky", "rrelu"):
        return graph.add("LeakyRelu", [layer.x], alpha=slope)
    if kind == "elu":
        return graph.add("Elu", [layer.x], alpha=slope)
    if kind == "selu":
        return graph.add("Selu", [layer.x])
    raise ModelError(f"act_type {printable(kind)} is none of leaky, prelu, rrelu, elu, selu")


def _clip(layer: Layer) -> str:
    bounds = [layers.scalar(layer.graph, layer.attributes.number(name), layer.x) for name in ("a_min", "a_max")]
    return layer.graph.add("Clip", [layer.x, *bounds])


def _softmax(op: str) -> Convert:
    def convert(layer: Layer) -> str:
        x, temperature = layer.x, layer.attributes.number("temperature", 1.0)
        if layer.attributes.flag("use_length"):
            raise ModelError("use_length is not supported")
        if temperature != 1.0:
            x = layer.graph.add("Div", [x, layers.scalar(layer.graph, temperature, x)])
        return layer.graph.add(op, [x], axis=layer.attributes.whole("axis", -1))

    return taking(1, 1, convert)


def _softmax_activation(layer: Layer) -> str:
    mode = layer.attributes.text("mode", "instance")
    if mode not in ("instance", "channel"):
        raise ModelError(f"mode {printable(mode)} is neither instance nor channel")
    return layer.graph.add("Softmax", [layer.x], axis=1) if mode == "channel" else layers.softmax(layer.graph, layer.x)


def _softmax_output(layer: Layer) -> str:
    attributes = layer.attributes
    if attributes.flag("multi_output"):
        return layer.graph.add("Softmax", [layer.x], axis=1)
    if attributes.flag("preserve_shape"):
        return layer.graph.add("Softmax", [layer.x], axis=-1)
    return layers.softmax(layer.graph, layer.x)


def _passed(layer: Layer) -> str:
    return layer.x


def _dropout(layer: Layer) -> str:
    if layer.attributes.text("mode", "training") != "training":
        raise ModelError("mode always draws random numbers for each request, which is not supported")
    return layer.x


ACTIVATIONS: dict[str, Convert] = {
    "Activation": taking(1, 1, _activation),
    "LeakyReLU": taking(1, 2, _leaky_relu),
    **{name: _plain(op) for name, op in _PLAIN.items() if name != "softrelu"},
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sqrt": _plain("Sqrt"),
    "abs": _plain("Abs"),
    "negative": _plain("Neg"),
    "floor": _plain("Floor"),
    "ceil": _plain("Ceil"),
    "clip": taking(1, 1, _clip),
    "softmax": _softmax("Softmax"),
    "log_softmax": _softmax("LogSoftmax"),
    "SoftmaxActivation": taking(1, 1, _softmax_activation),
    **dict.fromkeys(("SoftmaxOutput", "Softmax"), taking(1, 1, _softmax_output)),
    "LogisticRegressionOutput": _plain("Sigmoid"),
    "Dropout": taking(1, 1, _dropout),
    **dict.fromkeys(_PASSED, taking(1, 1, _passed)),
}
"""Operators by type; a label is not among their inputs."""
