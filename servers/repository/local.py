"""One model: the file or the Python object that the user named, or the embedded one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines.registry import is_reference
from tensorwire.servers.model import Model, ModelError

__all__ = ["open_model"]


def open_model(path: str | Path | None, load: Callable[[Path], Model]) -> Model:
    """Load a model from a file or folder, 'module:name' of Python, or the embedded digits model for None, by ``load``.

    The model's name is the file's stem; one of Python has its own. Raises ModelError.
    """
    if path is not None and is_reference(path):
        return load(Path(path))
    file = DIGITS if path is None else Path(path).expanduser()
    if not file.exists():
        raise ModelError(f"no such file: {path}")
    model = load(file)
    model.name = file.resolve().stem if file.name in ("", ".", "..") else file.stem
    return model
