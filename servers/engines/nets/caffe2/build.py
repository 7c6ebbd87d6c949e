"""From a NetDef and its weights to an ONNX graph."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets.batch import with_any_batch
from tensorwire.servers.engines.nets.caffe2.activations import ACTIVATIONS
from tensorwire.servers.engines.nets.caffe2.arithmetic import ARITHMETIC
from tensorwire.servers.engines.nets.caffe2.layer import Convert, Layer
from tensorwire.servers.engines.nets.caffe2.netdef import Net, Operator
from tensorwire.servers.engines.nets.caffe2.shapes import SHAPES
from tensorwire.servers.engines.nets.caffe2.windows import WINDOWS
from tensorwire.servers.engines.nets.files import listed, naming, printable
from tensorwire.servers.engines.nets.graph import Graph
from tensorwire.servers.model import Array, ModelError

__all__ = ["OPERATORS", "build"]

OPERATORS: dict[str, Convert] = {**WINDOWS, **ACTIVATIONS, **ARITHMETIC, **SHAPES}
"""All operators that can be converted, by type."""


def build(
    net: Net, weights: Mapping[str, Array], specs: Sequence[TensorSpec], outputs: Sequence[str] = ()
) -> tuple[bytes, str]:
    """The serialized ONNX graph, and what it is made of, such as 'Conv 26, Relu 26, ...'.

    ``specs`` declare inputs (a first dimension is taken as a batch of any size where the net allows it); those that the
    net needs and that are not declared are float32 of any shape, with the channels of the first convolution.
    ``outputs`` are blobs; none: those that the net names, or those that nothing reads.

    Raises ModelError: unknown operators (all of them), a blob that nothing makes, weights that do not fit, outputs that
    do not exist.
    """
    unknown = [op.where for op in net.operators if op.type not in OPERATORS]
    if unknown:
        raise ModelError(f"operators that are not supported: {listed(unknown)}")
    names = _input_names(net, weights, specs)
    by_name = {spec.name: spec for spec in specs}
    inputs = [by_name[name] if name in by_name else _guessed(net, weights, name) for name in names]
    asked = _output_names(net, outputs)
    graph = with_any_batch(
        inputs, lambda graph, free: _Conversion(graph, net, weights, frozenset(asked)).run(free, asked)
    )
    counts = Counter(op.type for op in net.operators)
    return graph, ", ".join(f"{kind} {count}" for kind, count in counts.most_common())


def _input_names(net: Net, weights: Mapping[str, Array], specs: Sequence[TensorSpec]) -> list[str]:
    """The blobs that requests bring: those declared, and those that the net reads before anything makes them."""
    made: set[str] = set()
    read: dict[str, None] = {}
    for op in net.operators:
        read.update(dict.fromkeys(name for name in op.inputs if name not in made))
        made.update(op.outputs)
    declared = [spec.name for spec in specs]
    for name in declared:
        if name not in read:
            raise ModelError(
                f"input {printable(name, quote=True)} is not read by the net: it reads {listed(_free(read, weights))}"
            )
    # A blob that a later operator makes is an error of its own.
    missing = [name for name in read if name not in weights and name not in declared and name not in made]
    if declared and missing:
        raise ModelError(
            f"weights that the init net does not make: {listed([printable(n, quote=True) for n in missing])}"
        )
    if declared:
        return declared
    wanting = [name for name in missing if not _looks_like_weight(net, name)]
    if len(wanting) < len(missing):
        lost = [printable(name, quote=True) for name in missing if name not in wanting]
        raise ModelError(f"weights that the init net does not make: {listed(lost)}")
    # Exporters fill inputs with one zero, so that the blob exists.
    found = missing or [name for name in read if _placeholder(weights[name]) and not _looks_like_weight(net, name)]
    if not found:
        raise ModelError(
            "which of its blobs are inputs cannot be told; declare them with option inputs=NAME:DTYPE[SIZES]"
        )
    return found


def _free(read: Mapping[str, None], weights: Mapping[str, Array]) -> list[str]:
    return [printable(name, quote=True) for name in read if name not in weights] or ["only weights"]


def _looks_like_weight(net: Net, name: str) -> bool:
    """The blob is read, and only as a later input of operators whose later inputs are weights."""
    weighted = ("Conv", "FC", "SpatialBN", "PRelu")
    places = [(op.type, at) for op in net.operators for at, read in enumerate(op.inputs) if read == name]
    return bool(places) and all(at > 0 and kind.startswith(weighted) for kind, at in places)


def _placeholder(array: Array) -> bool:
    return array.shape in ((), (1,)) and not array.any()


def _guessed(net: Net, weights: Mapping[str, Array], name: str) -> TensorSpec:
    """An input that was not declared: an image for the convolution that reads it, or of any shape."""
    for op in net.operators:
        weight = weights.get(op.inputs[1]) if len(op.inputs) > 1 and op.inputs[0] == name else None
        if weight is None:
            continue
        if op.type == "Conv" and weight.ndim >= 3 and op.arguments.text("order", "NCHW") == "NCHW":
            channels = weight.shape[1] * max(op.arguments.whole("group", 1), 1)
            return TensorSpec(name, np.dtype(np.float32), [-1, channels, *[-1] * (weight.ndim - 2)])
        if op.type == "FC" and weight.ndim == 2 and op.arguments.whole("axis", 1) == 1:
            return TensorSpec(name, np.dtype(np.float32), [-1, weight.shape[1]])
    return TensorSpec(name, np.dtype(np.float32), [])


def _output_names(net: Net, outputs: Sequence[str]) -> tuple[str, ...]:
    made = {name: None for op in net.operators for name in op.outputs}
    read = {name for op in net.operators for name in op.inputs}
    names = tuple(dict.fromkeys(outputs or net.outputs))
    if not names:
        names = tuple(op.outputs[0] for op in net.operators if op.outputs and op.outputs[0] not in read)
        names = tuple(dict.fromkeys(names)) or (next(reversed(made), ""),)
    for name in names:
        if name not in made:
            known = listed([printable(n, quote=True) for n in made])
            raise ModelError(f"output {printable(name, quote=True)} is made by no operator: they make {known}")
    return names


@dataclass
class _Conversion:
    """The operators in order, over tensors by the name of the blob that holds them now."""

    graph: Graph
    net: Net
    weights: Mapping[str, Array]
    asked: frozenset[str]
    blobs: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)

    def run(self, specs: Sequence[TensorSpec], outputs: Sequence[str]) -> bytes:
        for spec in specs:
            self.blobs[spec.name] = self.graph.input(spec)
        wanted = {name for op in self.net.operators for name in op.inputs} | self.asked
        for op in self.net.operators:
            with naming(op.where):
                self._convert(op, wanted)
        return self.graph.finish({name: self._tensor(name) for name in outputs}, self.net.name)

    def _convert(self, op: Operator, wanted: set[str]) -> None:
        inputs = tuple(self._tensor(name) for name in op.inputs)
        layer = Layer(self.graph, op, inputs, tuple(name in wanted for name in op.outputs))
        found = OPERATORS[op.type](layer)
        made = [found] if isinstance(found, str) else list(found)
        for at, name in enumerate(op.outputs):
            if at < len(made):
                self.blobs[name] = made[at]
                self.absent.pop(name, None)
            else:
                self.blobs.pop(name, None)
                self.absent[name] = op.where

    def _tensor(self, name: str) -> str:
        if name in self.blobs:
            return self.blobs[name]
        shown = printable(name, quote=True)
        if name in self.absent:
            raise ModelError(f"{shown} is read, which {self.absent[name]} makes in training only")
        if name not in self.weights:
            raise ModelError(f"{shown} is read before anything makes it")
        self.blobs[name] = self.graph.constant(self.weights[name], name)
        return self.blobs[name]
