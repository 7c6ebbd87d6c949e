"""Engines by name, found through the entry points of the group ``tensorwire.engines``.

An entry point is a module-level ``Engine``; a package that declares one makes its framework known here,
without a change to this library. Finding an engine does not import its framework.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, cast

from tensorwire.servers.engines.foreign import foreign_format
from tensorwire.servers.model import Engine, Model, ModelError

__all__ = ["GROUP", "engine_names", "find_engine", "is_model", "is_reference", "load_model", "prepare"]

GROUP = "tensorwire.engines"
PYTHON = "python"  # the engine of references to Python modules

_REFERENCE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")


def engine_names() -> tuple[str, ...]:
    """The names of all engines that are declared, sorted; their frameworks may not be installed."""
    return tuple(_points())


def find_engine(path: Path, name: str | None = None) -> Engine:
    """The engine of that name, or the first (by name) that recognizes the file.

    Raises ModelError when there is none, or when the engine's own module cannot be imported.
    """
    points = _points()
    known = ", ".join(points) or "none"
    if name is not None:
        if name not in points:
            raise ModelError(f"unknown engine {name!r}: there are {known}")
        return _engine(points[name])
    broken = []
    for point in points.values():
        try:
            engine = _engine(point)
        except ModelError as error:
            broken.append(str(error))
            continue
        if engine.recognizes(path):
            return engine
    foreign = foreign_format(path)
    if foreign is not None:
        raise ModelError(f"{path}: {foreign}")
    reason = f" ({'; '.join(broken)})" if broken else ""
    raise ModelError(f"{path}: not a format of a known engine ({known}){reason}; name one if it is")


def is_model(path: Path) -> bool:
    """An engine recognizes the file or folder. Reads little, raises nothing."""
    try:
        find_engine(path)
    except ModelError:
        return False
    return True


def is_reference(path: str | Path) -> bool:
    """It names something of a Python module, 'package.module:name', rather than a file that is there."""
    return bool(_REFERENCE.fullmatch(str(path))) and not Path(path).exists()


def prepare(path: Path, engine: str | None = None) -> None:
    """Import the framework of a model, if its engine can say which; what that costs is not the model's. Raises nothing:
    what is missing, loading will tell.
    """
    with contextlib.suppress(Exception):
        found = find_engine(path, engine or (PYTHON if is_reference(path) else None))
        getattr(found, "prepare", lambda: None)()


def load_model(
    path: str | Path, *, engine: str | None = None, options: Mapping[str, Any] | None = None
) -> Model:
    """Load a model with the named engine, or with the one that recognizes the file or Python reference.

    ``options`` go to the engine. Raises ModelError: no such file, no engine for it, the engine's extra is not
    installed, not a model, an option that the engine does not have.
    """
    path = Path(path)
    if is_reference(path):
        return find_engine(path, engine or PYTHON).load(path, options=dict(options or {}))
    if not path.exists():
        raise ModelError(f"no such file: {path}")
    return find_engine(path, engine).load(path, options=dict(options or {}))


@cache
def _points() -> dict[str, EntryPoint]:
    """What is installed, by name and in that order; read once, since it takes 10 ms in a well filled environment, and
    a model is looked for several times when it is loaded.
    """
    return {point.name: point for point in sorted(entry_points(group=GROUP), key=lambda point: point.name)}


@cache
def _engine(point: EntryPoint) -> Engine:
    try:
        return cast(Engine, point.load())
    except Exception as error:
        raise ModelError(f"engine {point.name!r} cannot be used: {type(error).__name__}: {error}") from error
