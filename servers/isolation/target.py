"""What a model's process is to load, said so that another process can do it."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from typing import Any

from tensorwire.servers.model import ModelError

__all__ = ["Target", "make_target", "read_target"]


@dataclass(frozen=True, slots=True)
class Target:
    """A path, 'module:name', or None for the embedded model, with what ``load_model`` takes.

    ``memory``: bytes that the process may have for itself (0: any number). ``modules``: where it finds Python modules.
    """

    path: str | None
    engine: str | None
    options: dict[str, Any]
    memory: int
    modules: list[str]

    def message(self) -> bytes:
        """For ``read_target`` in the other process. Raises ModelError for an option that JSON has not."""
        try:
            return json.dumps(asdict(self), default=_plain).encode()
        except TypeError as error:
            raise ModelError(f"{self.path}: an option cannot be given to another process: {error}") from None


def make_target(
    model: Any, engine: str | None = None, options: Mapping[str, Any] | None = None, memory: int = 0
) -> Target:
    """The target for a path, 'module:name', None, or a function or class of an imported module.

    Raises ModelError for anything else, which another process cannot load.
    """
    path = str(model) if model is None or isinstance(model, str | Path) else _reference(model)
    return Target(None if model is None else path, engine, dict(options or {}), memory, list(sys.path))


def read_target(message: bytes) -> Target:
    """The target in a message."""
    return Target(**json.loads(message))


def _reference(thing: Any) -> str:
    module, name = getattr(thing, "__module__", None), getattr(thing, "__qualname__", None)
    if not isinstance(module, str) or not isinstance(name, str):
        raise ModelError(f"another process cannot load {type(thing).__name__} objects: give a path or 'module:name'")
    if module == "__main__":
        raise ModelError(f"another process cannot import {name} from the main script: move it to a module of its own")
    try:
        found = reduce(getattr, name.split("."), sys.modules[module])
    except (AttributeError, KeyError):
        found = None
    if found is not thing:
        raise ModelError(f"another process cannot import {module}.{name}: it is not at the top of its module")
    return f"{module}:{name}"


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{value!r} is {type(value).__name__}")
