"""Reading the tensors that are sent from files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tensorwire.servers.commands.values import UserError

__all__ = ["read_inputs", "split_name"]


def read_inputs(texts: list[str]) -> dict[str, NDArray[Any]] | list[NDArray[Any]]:
    """Arrays by name, or in order when none is named; mapped from their files, not read."""
    named = [split_name(text) for text in texts]
    if not any(name for name, _ in named):
        return [_load(path) for _, path in named]
    if not all(name for name, _ in named):
        raise UserError("either every --input has a name (NAME=FILE.npy) or none")
    inputs: dict[str, NDArray[Any]] = {}
    for name, path in named:
        if name in inputs:
            raise UserError(f"--input {name} is given twice")
        inputs[name] = _load(path)
    return inputs


def split_name(text: str) -> tuple[str, Path]:
    """NAME=FILE, or FILE with an empty name."""
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else ("", Path(text))


def _load(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is not a .npy file of plain values: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays (.npz): save the one to send with numpy.save")
    return array
