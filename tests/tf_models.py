"""Small TensorFlow models for tests, written to a folder of the test. TensorFlow is imported when the first is made."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorwire.servers.engines.tf.engine import ENGINE
from tensorwire.servers.engines.tf.runtime import import_tensorflow
from tensorwire.servers.model import Model

__all__ = ["HERE", "aligned", "call", "load", "save_graph", "saved", "tensorflow"]

HERE = importlib.util.find_spec("tensorflow") is not None
"""TensorFlow is installed."""


def tensorflow() -> Any:
    """The module, imported as the engine does it."""
    return import_tensorflow(Path("test"))


def load(path: Path, **options: Any) -> Any:
    """The model of a file; Any, since tests look inside."""
    return ENGINE.load(path, options=options)


def call(model: Model, signature: str = "", **inputs: Any) -> Mapping[str, Any]:
    """All outputs for inputs by name."""
    return model.run(signature, inputs, ())


def save_graph(path: Path, build: Callable[[Any], object]) -> Path:
    """A frozen graph: ``build`` is called with tensorflow.compat.v1, and makes the operations."""
    tf = tensorflow()
    with tf.Graph().as_default() as graph:
        build(tf.compat.v1)
    path.write_bytes(graph.as_graph_def().SerializeToString())
    return path


def saved(path: Path, *, variables: Any = None, **functions: Callable[..., Any]) -> Path:
    """A SavedModel of TensorFlow 2 with a signature for each tf.function that has an input signature; ``variables`` are
    what they use.
    """
    tf = tensorflow()
    module = tf.Module()
    module.variables_used = variables
    for name, function in functions.items():
        setattr(module, name, function)
    tf.saved_model.save(module, str(path), signatures=functions or None)
    return path


def aligned(shape: tuple[int, ...], dtype: Any, offset: int = 0) -> NDArray[Any]:
    """A writable array whose data lies ``offset`` bytes past a 64-byte boundary, as in what a server receives (0)."""
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    block = np.zeros(size + 128, np.uint8)
    start = -block.ctypes.data % 64 + offset
    found: NDArray[Any] = block[start : start + size].view(dtype).reshape(shape)
    return found
