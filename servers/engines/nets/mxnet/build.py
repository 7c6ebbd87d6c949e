"""From a symbol and its parameters to an ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets.batch import with_any_batch
from tensorwire.servers.engines.nets.files import listed, naming, printable
from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.engines.nets.mxnet.activations import ACTIVATIONS, LABELLED
from tensorwire.servers.engines.nets.mxnet.arithmetic import ARITHMETIC
from tensorwire.servers.engines.nets.mxnet.layer import Convert, Layer
from tensorwire.servers.engines.nets.mxnet.shapes import SHAPES
from tensorwire.servers.engines.nets.mxnet.symbol import Node, Source, Symbol
from tensorwire.servers.engines.nets.mxnet.windows import WINDOWS
from tensorwire.servers.model import Array, ModelError

__all__ = ["OPERATORS", "build"]

OPERATORS: dict[str, Convert] = {**WINDOWS, **ACTIVATIONS, **ARITHMETIC, **SHAPES}
"""All operators that can be converted, by type."""

_VARIABLE = "null"
_WEIGHTED = ("Convolution", "Deconvolution", "FullyConnected", "BatchNorm", "CuDNNBatchNorm", "LeakyReLU")


def build(
    symbol: Symbol, weights: Mapping[str, Array], specs: Sequence[TensorSpec], outputs: Sequence[str] = ()
) -> tuple[bytes, str]:
    """The serialized ONNX graph, and what it is made of, such as 'Convolution 9, Activation 8, ...'.

    ``specs`` declare inputs (a first dimension is taken as a batch of any size where the network allows it); variables
    that are no weights and were not declared have the shape that the symbol notes, or any. ``outputs`` are names of
    nodes; none: the symbol's own.

    Raises ModelError: unknown operators (all of them), a missing weight, weights that do not fit, outputs that do not
    exist.
    """
    heads = _heads(symbol, outputs)
    nodes = _reached(symbol, [source for source, _ in heads])
    unknown = [node.where for node in nodes if node.op != _VARIABLE and node.op not in OPERATORS]
    if unknown:
        raise ModelError(f"operators that are not supported: {listed(unknown)}")
    inputs = _inputs(symbol, nodes, weights, specs)
    asked = {name: source for source, name in heads}
    graph = with_any_batch(inputs, lambda graph, free: _Conversion(graph, symbol, weights).run(nodes, free, asked))
    counts = Counter(node.op for node in nodes if node.op != _VARIABLE)
    return graph, ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


def _heads(symbol: Symbol, outputs: Sequence[str]) -> list[tuple[Source, str]]:
    """Where outputs come from, with their names: that of the node, and a number when it is not the node's first."""
    if not outputs:
        found = dict.fromkeys(symbol.heads)
        return [((at, which), _output_name(symbol.nodes[at], which)) for at, which in found]
    made = {node.name: (node.number, 0) for node in symbol.nodes if node.op != _VARIABLE}
    sources = []
    for name in dict.fromkeys(outputs):
        source = made.get(name, made.get(name.removesuffix("_output")))
        if source is None:
            known = listed([printable(each, quote=True) for each in made])
            raise ModelError(f"output {printable(name, quote=True)} is no node: there are {known}")
        sources.append((source, name))
    return sources


def _output_name(node: Node, which: int) -> str:
    return f"{node.name}_output{which}" if which else node.name


def _read(node: Node) -> tuple[Source, ...]:
    """What a node reads outside of training: not its label."""
    return node.inputs[:1] if node.op in LABELLED else node.inputs


def _reached(symbol: Symbol, heads: Sequence[Source]) -> list[Node]:
    """The nodes that the heads need, in order."""
    wanted = {at for at, _ in heads}
    for node in reversed(symbol.nodes):
        if node.number in wanted:
            wanted.update(at for at, _ in _read(node))
    return [node for node in symbol.nodes if node.number in wanted]


def _inputs(
    symbol: Symbol, nodes: Sequence[Node], weights: Mapping[str, Array], specs: Sequence[TensorSpec]
) -> list[TensorSpec]:
    declared = {spec.name: spec for spec in specs}
    variables = {node.name: node for node in nodes if node.op == _VARIABLE}
    for name in declared:
        if name not in variables:
            free = [printable(each, quote=True) for each in variables if each not in weights]
            raise ModelError(
                f"input {printable(name, quote=True)} is not read by the network: it reads {listed(free) or 'none'}"
            )
    missing = [name for name in variables if name not in weights and name not in declared]
    lost = [name for name in missing if declared or _only_weights(nodes, variables[name].number)]
    if lost:
        raise ModelError(f"weights that the parameters do not have: {listed([printable(n, quote=True) for n in lost])}")
    names = [name for name in variables if name in declared or name in missing]
    if not names:
        raise ModelError("all of its variables are among the parameters: no input is left")
    return [declared.get(name) or _guessed(symbol, nodes, variables[name], weights) for name in names]


def _only_weights(nodes: Sequence[Node], number: int) -> bool:
    """The variable is read only where operators have their weights."""
    places = [(node.op, at) for node in nodes for at, source in enumerate(_read(node)) if source[0] == number]
    return bool(places) and all(at > 0 and op.startswith(_WEIGHTED) for op, at in places)


def _guessed(symbol: Symbol, nodes: Sequence[Node], variable: Node, weights: Mapping[str, Array]) -> TensorSpec:
    """An input that was not declared: of the shape noted in the symbol, or with what the first weights say of it."""
    dtype = np.dtype(np.float32)
    noted = variable.attributes.wholes("__shape__")
    if noted:
        return TensorSpec(variable.name, dtype, [size if size > 0 else -1 for size in noted])
    for node in nodes:
        read = _read(node)
        weight = weights.get(symbol.nodes[read[1][0]].name) if len(read) > 1 and read[0][0] == variable.number else None
        if weight is None:
            continue
        if node.op == "Convolution" and weight.ndim >= 3:
            channels = weight.shape[1] * max(node.attributes.whole("num_group", 1), 1)
            return TensorSpec(variable.name, dtype, [-1, channels, *[-1] * (weight.ndim - 2)])
        if node.op == "FullyConnected" and weight.ndim == 2 and node.attributes.flag("flatten", True):
            return TensorSpec(variable.name, dtype, [-1, weight.shape[1]])
    return TensorSpec(variable.name, dtype, [])


@dataclass
class _Conversion:
    """The nodes in order, over tensors by where they come from."""

    graph: Graph
    symbol: Symbol
    weights: Mapping[str, Array]
    tensors: dict[Source, str] = field(default_factory=dict)

    def run(self, nodes: Sequence[Node], specs: Sequence[TensorSpec], outputs: Mapping[str, Source]) -> bytes:
        inputs = {spec.name: spec for spec in specs}
        for node in nodes:
            with naming(node.where):
                if node.op != _VARIABLE:
                    self._convert(node)
                elif node.name in inputs:
                    self.tensors[node.number, 0] = self.graph.input(inputs[node.name])
                else:
                    self.tensors[node.number, 0] = self.graph.constant(self.weights[node.name], node.name)
        return self.graph.finish({name: self._tensor(source) for name, source in outputs.items()}, "symbol")

    def _convert(self, node: Node) -> None:
        read = _read(node)
        names = tuple(self.symbol.nodes[at].name for at, _ in read)
        layer = Layer(self.graph, node.attributes, tuple(self._tensor(source) for source in read), names)
        found = OPERATORS[node.op](layer)
        for which, tensor in enumerate([found] if isinstance(found, str) else found):
            self.tensors[node.number, which] = tensor

    def _tensor(self, source: Source) -> str:
        if source not in self.tensors:
            node = self.symbol.nodes[source[0]]
            raise ModelError(f"output {source[1]} of {node.where} is read, which is made in training only, or never")
        return self.tensors[source]
