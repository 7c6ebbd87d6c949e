"""An ONNX graph under construction, which knows the type and, as far as it can be told, the shape of every tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.nets.files import LARGEST, printable
from tensorwire.servers.model import Array, ModelError

__all__ = ["Graph", "Sizes", "shape_of"]

Sizes = tuple[int | None, ...]
"""The sizes of a tensor's dimensions; None is one that may have any size, such as the batch."""

_OPSET = 18
_IR_VERSION = 9
_MOST_ELEMENTS = 2**32
_SMALL = 1024  # elements of a constant that may say what shape another tensor has
_LISTED = 20


class Graph:
    """Nodes are added in the order in which they run; a tensor is known by the name that ``add`` gives it.

    Names of inputs are the public ones, all others are internal until ``finish`` names the outputs. ``any_batch``: the
    inputs have lost the batch size that they were declared with.
    """

    def __init__(self, *, any_batch: bool = False) -> None:
        from onnx import checker, defs, helper, numpy_helper, shape_inference

        self._onnx: Any = helper
        self._to_proto: Any = numpy_helper.from_array
        self._schema: Any = defs.get_schema
        self._infer: Any = shape_inference.infer_node_outputs
        self._checker: Any = checker
        self._misfits = (shape_inference.InferenceError, checker.ValidationError, RuntimeError, ValueError)
        self._opsets = [helper.make_opsetid("", _OPSET)]
        self._nodes: list[Any] = []
        self._inputs: list[str] = []
        self._types: dict[str, Any] = {}
        self._constants: dict[str, Array] = {}
        self._small: dict[str, Any] = {}
        self._count = 0
        self.any_batch = any_batch

    @property
    def inputs(self) -> tuple[str, ...]:
        """The names of the inputs, in the order in which they were made."""
        return tuple(self._inputs)

    def input(self, spec: TensorSpec) -> str:
        """An input of the graph; without sizes its rank is free, without a dtype it is float32."""
        dtype = spec.dtype if spec.dtype is not None else np.dtype(np.float32)
        sizes = [size if size >= 0 else None for size in spec.shape]
        _check_size(sizes, f"input {printable(spec.name, quote=True)}")
        self._types[spec.name] = self._onnx.make_tensor_type_proto(self._element(dtype), sizes if spec.shape else None)
        self._inputs.append(spec.name)
        return spec.name

    def constant(self, array: Array, hint: str = "constant") -> str:
        """A tensor of the graph's own, kept by reference until ``finish``."""
        name = self._new(hint)
        self._constants[name] = array
        self._types[name] = self._onnx.make_tensor_type_proto(self._element(array.dtype), array.shape)
        if array.size <= _SMALL and array.dtype.kind in "iu":
            self._small[name] = self._to_proto(np.ascontiguousarray(array), name)
        return name

    def wholes(self, numbers: Sequence[int]) -> str:
        """A constant int64 tensor of one dimension: axes, shapes, pads."""
        return self.constant(np.array(numbers, np.int64), "numbers")

    def value(self, tensor: str) -> Array | None:
        """The array of a constant, None for a tensor that is computed."""
        return self._constants.get(tensor)

    def dtype(self, tensor: str) -> np.dtype[Any]:
        found: np.dtype[Any] = self._onnx.tensor_dtype_to_np_dtype(self._types[tensor].tensor_type.elem_type)
        return found

    def sizes(self, tensor: str) -> Sizes | None:
        """The shape of a tensor as far as it is known, None when not even its rank is."""
        kind = self._types[tensor].tensor_type
        if not kind.HasField("shape"):
            return None
        return tuple(dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim)

    def rank(self, tensor: str) -> int:
        """Raises ModelError when the rank is not known."""
        sizes = self.sizes(tensor)
        if sizes is None:
            raise ModelError("the shape of its input is not known: declare the network's inputs with their shapes")
        return len(sizes)

    def declare(self, tensor: str, sizes: Sequence[int | None]) -> str:
        """Say what is known of a computed tensor's shape where inference cannot see it; returns the tensor."""
        element = self._types[tensor].tensor_type.elem_type
        self._types[tensor] = self._onnx.make_tensor_type_proto(element, list(sizes))
        return tensor

    def add(self, op: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Add a node with one output, and return that; "" stands for an optional input left out.

        Raises ModelError when the node does not fit its inputs.
        """
        return self.add_several(op, inputs, 1, **attributes)[0]

    def add_several(self, op: str, inputs: Sequence[str], count: int, **attributes: Any) -> list[str]:
        """The same for a node with ``count`` outputs."""
        outputs = [self._new(op) for _ in range(count)]
        node = self._onnx.make_node(op, list(inputs), outputs, **attributes)
        given = [name for name in inputs if name]
        try:
            found = self._infer(
                self._schema(op, _OPSET, ""),
                node,
                {name: self._types[name] for name in given},
                {name: self._small[name] for name in given if name in self._small},
                opset_imports=self._opsets,
                ir_version=_IR_VERSION,
            )
        except self._misfits as error:
            shapes = ", ".join(shape_of(self.sizes(name)) for name in given[:_LISTED])
            raise ModelError(f"does not fit its inputs of shape {shapes}: {_reason(error)}") from None
        for name in outputs:
            if name not in found:
                raise ModelError(f"the type of what {op} gives cannot be told")
            self._types[name] = found[name]
            _check_size(self.sizes(name) or (), "what it gives")
        self._nodes.append(node)
        return outputs

    def finish(self, outputs: Mapping[str, str], name: str, description: str = "") -> bytes:
        """The graph as a checked, serialized ONNX model that gives ``outputs``: tensors by their public names.

        What leads to no output is left out, and inputs that nothing reads stay. Raises ModelError.
        """
        public = self._public(outputs)
        nodes = self._needed(public)
        read = {source for node in nodes for source in node.input}
        constants = {key: self._constants[key] for key in self._constants if key in read}
        nbytes = sum(array.nbytes for array in constants.values())
        if nbytes > LARGEST - 2**24:
            raise ModelError(f"its weights have {nbytes:,} bytes, an ONNX graph holds less than {LARGEST:,}")
        named = {tensor: key for key, tensor in public.items()}
        final = {key: self._free(key, outputs) for key in self._types if key not in self._inputs} | named
        for node in nodes:
            node.input[:] = [final.get(key, key) for key in node.input]
            node.output[:] = [final.get(key, key) for key in node.output]
        inputs = [self._info(key, key) for key in self._inputs]
        weights = [self._info(key, final[key]) for key in constants]
        results = [self._info(tensor, key) for key, tensor in public.items()]
        graph = self._onnx.make_graph(nodes, name or "net", inputs + weights, results, doc_string=description)
        model = self._onnx.make_model(
            graph, opset_imports=self._opsets, ir_version=_IR_VERSION, producer_name="tensorwire"
        )
        try:
            # The checker reads a serialized copy, in which weights need not be: they are declared as inputs here.
            self._checker.check_model(model)
        except self._checker.ValidationError as error:
            raise ModelError(f"no valid ONNX graph can be made of it: {_reason(error)}") from None
        del model.graph.input[len(inputs) :]
        for info, tensor in zip(
            [*model.graph.input, *model.graph.output], [*self._inputs, *public.values()], strict=True
        ):
            info.type.CopyFrom(self._types[tensor])
        for key, array in constants.items():
            model.graph.initializer.append(self._to_proto(np.ascontiguousarray(array), final[key]))
        return bytes(model.SerializeToString())

    def _public(self, outputs: Mapping[str, str]) -> dict[str, str]:
        """Outputs by public name, each a tensor that can bear that name: computed, and not another output's."""
        public: dict[str, str] = {}
        for name, tensor in outputs.items():
            if name in self._inputs and name != tensor:
                raise ModelError(f"{printable(name, quote=True)} is an input and an output; choose other outputs")
            passed = tensor in self._inputs and name == tensor
            if not passed and (tensor in self._inputs or tensor in self._constants or tensor in public.values()):
                tensor = self.add("Identity", [tensor])
            public[name] = tensor
        return public

    def _needed(self, public: Mapping[str, str]) -> list[Any]:
        wanted = set(public.values())
        nodes = []
        for node in reversed(self._nodes):
            if wanted.intersection(node.output):
                wanted.update(node.input)
                nodes.append(node)
        return nodes[::-1]

    def _free(self, name: str, taken: Mapping[str, str]) -> str:
        while name in taken or name in self._inputs:
            name += "#"
        return name

    def _info(self, tensor: str, name: str) -> Any:
        """The declaration of a tensor; one of unknown rank has none for the checker, which wants a shape."""
        info = self._onnx.make_value_info(name, self._types[tensor])
        info.type.tensor_type.shape.SetInParent()
        return info

    def _new(self, hint: str) -> str:
        while True:
            self._count += 1
            name = f"{hint}#{self._count}"
            if name not in self._types:
                return name

    def _element(self, dtype: np.dtype[Any]) -> int:
        try:
            return int(self._onnx.np_dtype_to_tensor_dtype(dtype))
        except (KeyError, ValueError, TypeError):
            raise ModelError(f"{dtype} is not a type that a network can compute with") from None


def shape_of(sizes: Sequence[int | None] | None) -> str:
    """'[?, 3, 224, 224]' for a message; 'of any rank' when nothing is known."""
    if sizes is None:
        return "of any rank"
    return "[" + ", ".join("?" if size is None else str(size) for size in sizes) + "]"


def _check_size(sizes: Sequence[int | None], what: str) -> None:
    if math.prod(size for size in sizes if size is not None) > _MOST_ELEMENTS:
        raise ModelError(f"{what} has the shape {shape_of(sizes)}: that is too large")


def _reason(error: Exception) -> str:
    """The library's text on one line, without the marks of where in its source it arose."""
    text = " ".join(str(error).split())
    for mark in ("[ShapeInferenceError] ", "[TypeInferenceError] "):
        text = text.rpartition(mark)[2]
    return printable(text[:200])
