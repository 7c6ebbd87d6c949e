"""One model on the local disk: the file that the user named, or the embedded one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.model import Model, ModelError

__all__ = ["open_model"]


def open_model(path: str | Path | None, load: Callable[[Path], Model]) -> Model:
    """Load a model from a file or folder, or the embedded digits model for None, by means of ``load``.

    The model's name is the file's stem. Raises ModelError.
    """
    file = DIGITS if path is None else Path(path).expanduser()
    if not file.exists():
        raise ModelError(f"no such file: {path}")
    model = load(file)
    model.name = file.resolve().stem if file.name in ("", ".", "..") else file.stem
    return model
