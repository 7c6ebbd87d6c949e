"""Opening a model in this process: the file or Python object that the user named, the embedded one, or a version."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines.registry import is_reference, load_model
from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.config import ModelConfig

__all__ = ["load_version", "open_model"]


def open_model(
    path: str | Path | None = None, *, engine: str | None = None, options: Mapping[str, Any] | None = None
) -> Model:
    """Load a model from a file or folder, 'module:name' of Python, or the embedded digits model for None.

    The model's name is the file's stem; one of Python has its own. Raises ModelError.
    """
    if path is not None and is_reference(path):
        return load_model(Path(path), engine=engine, options=options)
    file = DIGITS if path is None else Path(path).expanduser()
    if not file.exists():
        raise ModelError(f"no such file: {path}")
    model = load_model(file, engine=engine, options=options)
    model.name = file.resolve().stem if file.name in ("", ".", "..") else file.stem
    return model


def load_version(path: Path, config: ModelConfig) -> Model:
    """Load a version of a configured model. Raises ModelError."""
    return load_model(path, engine=config.engine, options=config.options)
