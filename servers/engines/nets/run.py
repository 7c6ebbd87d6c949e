"""From a finished ONNX graph to a model that ONNX Runtime runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.ort import ENGINE
from tensorwire.servers.model import Model, ModelError

__all__ = ["needs_onnx", "prepare", "run_graph"]


def needs_onnx(path: Path, extra: str) -> None:
    """Raises ModelError that says what to install, when a package that builds the graph is missing."""
    try:
        import onnx
        from google.protobuf import message
    except ImportError:
        raise ModelError(f"{path}: the onnx package is not installed; run: pip install 'tensorwire[{extra}]'") from None
    del onnx, message


def prepare() -> None:
    """Import what builds and runs the graphs. Raises ImportError."""
    import onnx  # noqa: F401

    ENGINE.prepare()


def run_graph(graph: bytes, path: Path, *, facts: Mapping[str, str], options: Mapping[str, Any]) -> Model:
    """A model of the serialized graph, named after the file; ``options`` are ONNX Runtime's. Raises ModelError."""
    model = ENGINE.load_bytes(graph, path, options=options)
    model.description = ""
    model.facts = facts
    return model
