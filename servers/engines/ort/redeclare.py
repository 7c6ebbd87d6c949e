"""Sizes of inputs that the user gives: held against what the model declares, or put in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.ort.types import dtype_of
from tensorwire.servers.model import ModelError

__all__ = ["differing", "redeclare", "wanted_inputs"]


def wanted_inputs(given: str | Path | Mapping[str, Any]) -> tuple[TensorSpec, ...]:
    """GraphPipe's description of inputs, a JSON file or what is in it. Raises ModelError."""
    from tensorwire.servers.engines.nets.inputs import value_inputs

    return value_inputs(given)


def differing(path: Path, inputs: Sequence[Any], wanted: Sequence[TensorSpec]) -> list[TensorSpec]:
    """Those of the wanted inputs whose sizes are not the ones that a session's NodeArgs declare.

    Raises ModelError for a name, a type or a rank that the model has not.
    """
    known = {arg.name: arg for arg in inputs}
    found = []
    for spec in wanted:
        arg = known.get(spec.name)
        if arg is None:
            raise ModelError(f"{path}: has no input {spec.name!r}, it has {', '.join(map(repr, known)) or 'none'}")
        dtype = dtype_of(arg.type)
        if dtype != spec.dtype:
            raise ModelError(f"{path}: input {spec.name!r} is {dtype}, value_inputs says {spec.dtype}")
        if arg.shape and len(arg.shape) != len(spec.shape):
            raise ModelError(
                f"{path}: input {spec.name!r} has {len(arg.shape)} dimensions, value_inputs says {len(spec.shape)}"
            )
        declared = [size if isinstance(size, int) else -1 for size in arg.shape]
        if declared != list(spec.shape):
            found.append(spec)
    return found


def redeclare(source: Path | bytes, path: Path, specs: Sequence[TensorSpec]) -> bytes:
    """The model with other sizes of its inputs; what it says of shapes behind them is left out.

    Raises ModelError: the package onnx is not installed, or cannot read or write the model.
    """
    try:
        import onnx
    except ImportError:
        raise ModelError(f"{path}: to serve it with other shapes than its own, run: pip install onnx") from None
    try:
        model = onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))
        graph = model.graph
        shapes = {spec.name: spec.shape for spec in specs}
        for value in graph.input:
            if value.name in shapes:
                dims = value.type.tensor_type.shape.dim
                del dims[:]
                for axis, size in enumerate(shapes[value.name]):
                    dims.add(**({"dim_value": size} if size >= 0 else {"dim_param": f"{value.name}_{axis}"}))
        for value in graph.output:
            for dim in value.type.tensor_type.shape.dim:
                dim.Clear()
        del graph.value_info[:]
        content: bytes = model.SerializeToString()
        return content
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise ModelError(f"{path}: cannot be declared with other shapes: {reason}") from error
