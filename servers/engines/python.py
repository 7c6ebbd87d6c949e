"""Python as an engine: ``module:name`` is imported, and what stands there is the model."""

from __future__ import annotations

import difflib
import importlib
import logging
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.python_model import as_model, failure
from tensorwire.servers.engines.registry import is_reference
from tensorwire.servers.model import Model, ModelError

__all__ = ["ENGINE", "PythonEngine", "referred"]

_log = logging.getLogger("tensorwire.engines")


class PythonEngine:
    """Loads 'module:name', a function, class, object or Model of a module; see ``as_model`` for its options.

    The current folder is importable, first of all, as with ``python -m``.
    """

    name = "python"

    def recognizes(self, path: Path) -> bool:
        return is_reference(path)

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Raises ModelError: no such module or name in it, its import raises, and what ``as_model`` raises."""
        if not is_reference(path):
            raise ModelError(f"{path}: the python engine serves module:name")
        thing = referred(path)
        try:
            return as_model(thing, options)
        except ModelError as error:
            raise ModelError(f"{path}: {error}") from error


ENGINE = PythonEngine()


def referred(path: Path) -> Any:
    """What stands at 'module:name', its module imported. Raises ModelError."""
    module, _, name = str(path).partition(":")
    thing = _import(path, module)
    for part in name.split("."):
        thing = _attribute(path, thing, part)
    return thing


def _import(path: Path, module: str) -> Any:
    folder = str(Path.cwd())
    if not {folder, ""} & set(sys.path):
        sys.path.insert(0, folder)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(module)
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{module}.".startswith(f"{error.name}."):
            stem = module.removesuffix(".py")
            advice = f"; write {stem}:{str(path).partition(':')[2]}" if stem != module else ""
            raise ModelError(f"{path}: no module {module!r}, neither in {folder} nor installed{advice}") from None
        _log.debug("import of %s raised", module, exc_info=True)
        advice = f"for the traceback run: python -c 'import {module}'"
        raise ModelError(f"{path}: the import raised {failure(error)}; {advice}") from error


def _attribute(path: Path, thing: Any, name: str) -> Any:
    try:
        return getattr(thing, name)
    except AttributeError:
        close = difflib.get_close_matches(name, [key for key in dir(thing) if not key.startswith("_")], 3)
        advice = f"; did you mean {' or '.join(close)}?" if close else ""
        raise ModelError(f"{path}: {getattr(thing, '__name__', thing)} has no {name!r}{advice}") from None
