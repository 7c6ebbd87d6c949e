"""Version folders of a small ONNX model that multiplies its input by its version's number."""

from __future__ import annotations

from pathlib import Path

import numpy as np

__all__ = ["X", "prepare", "publish"]

X = np.arange(3, dtype=np.float32)
"""What is asked: the answer's second number is the version."""


def prepare(folder: Path, number: int) -> None:
    """A version in a hidden folder beside its base path: moving it there, complete, is all that is left to do."""
    import onnx
    from onnx import helper

    values = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [None]) for name in ("x", "y")]
    factor = helper.make_tensor("factor", onnx.TensorProto.FLOAT, [], [float(number)])
    node = helper.make_node("Mul", ["x", "factor"], ["y"])
    graph = helper.make_graph([node], "times", values[:1], values[1:], [factor])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    away = folder.parent / f".{folder.name}-{number}"
    away.mkdir(parents=True)
    (away / "model.onnx").write_bytes(model.SerializeToString())


def publish(folder: Path, number: int) -> None:
    """Move a prepared version to its base path."""
    folder.mkdir(exist_ok=True)
    (folder.parent / f".{folder.name}-{number}").rename(folder / str(number))
