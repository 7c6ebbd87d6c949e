"""Small ONNX models for tests, written to a folder of the test."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

__all__ = ["ELEMENT", "save", "tensor"]

ELEMENT = onnx.TensorProto
"""Element types by name: ELEMENT.FLOAT, ELEMENT.STRING, ..."""

Dims = Sequence[int | str] | None


def tensor(name: str, element: int, dims: Dims = ("n",)) -> Any:
    """An input or output; dims: sizes, names of free dimensions, or None for no declared rank."""
    return helper.make_tensor_value_info(name, element, dims)


def save(
    folder: Path,
    nodes: Sequence[tuple[str, Sequence[str], Sequence[str]] | Any],
    inputs: Sequence[Any],
    outputs: Sequence[Any],
    *,
    constants: dict[str, NDArray[Any]] | None = None,
    opset: int = 18,
    domains: Sequence[tuple[str, int]] = (),
    name: str = "model",
    **fields: Any,
) -> Path:
    """Write a model of (operator, inputs, outputs) nodes; ``fields`` go to the ModelProto."""
    made = [helper.make_node(*node) if isinstance(node, tuple) else node for node in nodes]
    initializers = [numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    graph = helper.make_graph(made, "graph", list(inputs), list(outputs), initializers)
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(*domain) for domain in domains)]
    model = helper.make_model(graph, opset_imports=imports, ir_version=9, **fields)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    return path
