"""Python functions, classes and objects as models: what ``tensorwire serve module:name`` and ``tw.serve`` take."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

from tensorwire.servers.declare import Declared, declared
from tensorwire.servers.engines.annotations import type_hints
from tensorwire.servers.engines.coroutines import LoopThread, is_coroutine_function
from tensorwire.servers.engines.function import Call, first_line, parameters_of
from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, ModelError
from tensorwire.servers.spec_text import parse_specs

__all__ = ["PythonModel", "as_model", "failure"]

_log = logging.getLogger("tensorwire.engines")

_MOST_TASKS = 16  # calls at once of coroutine functions, which mostly wait
_MAIN = "predict"
_OWN = ("concurrency", "inputs", "outputs")  # options that every Python model has
_KINDS = {int: "a whole number", float: "a number"}


def as_model(thing: Any, options: Mapping[str, Any] | None = None) -> Model:
    """A Model as it is; a class, or a function annotated to return a Model, called with ``options``; a function; an
    object with methods under ``signature``, with ``predict``, or that can be called.

    ``options`` are keyword arguments of the class or function; values that are text become what its annotation says
    (int, float, bool, Path). Those that it does not take must be ``concurrency``, ``inputs`` or ``outputs``, which
    come before what was declared. Raises ModelError: none of these, an option that it does not have, specs that do
    not fit, whatever the class raises.
    """
    given = dict(options or {})
    model = _build(thing, given) if inspect.isclass(thing) or _makes_model(thing) else thing
    if not isinstance(model, Model):
        return PythonModel(model, given)
    _refuse(thing, list(given))
    return model


class PythonModel(Model):
    """A function, or an object with one method or several, each a signature.

    ``run`` calls it in the thread that asks; coroutine functions run on one event loop, in a thread of the model's
    own. ``close`` calls the object's ``close``, if it has one.
    """

    engine = "python"

    def __init__(self, thing: Any, options: Mapping[str, Any] | None = None) -> None:
        about = declared(thing)
        methods = _methods(thing, about)
        _refuse(thing, [key for key in options or () if key not in _OWN])
        given = Options(self.engine, options or {})
        sides = {side: parse_specs(given.text(side)) for side in ("inputs", "outputs")}
        if any(sides.values()) and len(methods) > 1:
            raise ModelError(f"{_name(thing)} has several signatures: option inputs or outputs would be of which?")
        waits = any(is_coroutine_function(fn) for fn, _ in methods.values())
        self.name = about.name or ("function" if _name(thing) == "<lambda>" else _name(thing))
        self.version = about.version or "1"
        self.description = about.description or first_line(_doc(thing))
        self.concurrency = given.whole("concurrency") or about.concurrency or (_MOST_TASKS if waits else 1)
        self._loop = LoopThread(self.name)
        self._close = getattr(thing, "close", None)
        self._calls = {}
        for name, (fn, said) in methods.items():
            if inspect.isgeneratorfunction(fn) or inspect.isasyncgenfunction(fn):
                raise ModelError(f"{_name(fn)} is a generator: a model returns all its outputs at once")
            instead = self._loop.wrap(fn) if is_coroutine_function(fn) else None
            try:
                call = Call(fn, sides["inputs"] or said.inputs, sides["outputs"] or said.outputs, instead=instead)
            except ModelError as error:
                raise ModelError(f"{_name(fn)}: {error}") from None
            self._calls[name] = call
        self.signatures = {name: call.signature(name) for name, call in self._calls.items()}
        self.default_signature = _default(thing, {name: said for name, (_, said) in methods.items()})

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Any]:
        """What the function returns, by name (not copied). Raises what the function raises."""
        return self._calls[signature or self.default_signature](inputs, outputs)

    def close(self) -> None:
        """Call the object's ``close`` once; what it raises goes to the log."""
        close, self._close = self._close, None
        if callable(close) and not inspect.isclass(close):
            try:
                (self._loop.wrap(close) if is_coroutine_function(close) else close)()
            except Exception:
                _log.exception("close of model %r failed", self.name)
        self._loop.close()


def failure(error: BaseException) -> str:
    """An exception of the user's code on one line: what, and where it was raised."""
    reason = " ".join(str(error).split())
    text = f"{type(error).__name__}: {reason}" if reason else type(error).__name__
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<")]
    if isinstance(error, SyntaxError) or not frames:
        return text  # a SyntaxError says itself where
    return f"{text} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})"


def _build(factory: Callable[..., Any], given: dict[str, Any]) -> Any:
    """Call a class or factory with the options that it takes, which are taken out of ``given``."""
    name = _name(factory)
    parameters = parameters_of(factory) or {}
    hints = type_hints(factory.__init__ if inspect.isclass(factory) else factory)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {key: p for key, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    arguments = {}
    for key in list(given):
        if key in named or (takes_any and key not in _OWN):
            arguments[key] = _converted(key, given.pop(key), hints.get(key))
        elif key not in _OWN:
            raise ModelError(f"{name} has no option {key}: it takes {', '.join(named) or 'none'}")
    missing = [key for key, p in named.items() if p.default is p.empty and key not in arguments]
    if missing:
        raise ModelError(f"{name} needs the option {missing[0]}: --option {missing[0]}=...")
    try:
        return factory(**arguments)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        _log.debug("%s raised", name, exc_info=True)
        raise ModelError(f"{name} raised {failure(error)}") from error


def _converted(key: str, value: Any, hint: Any) -> Any:
    """Text from the command line as the type of the parameter's annotation; anything else as it is."""
    if not isinstance(value, str):
        return value
    kinds = [kind for kind in (get_args(hint) or (hint,)) if kind is not type(None)]
    kind = kinds[0] if len(kinds) == 1 else None
    if kind is bool:
        return Options("", {key: value}).flag(key)
    if kind not in (int, float, Path):
        return value
    try:
        return kind(value)
    except ValueError:
        raise ModelError(f"option {key} is {_KINDS[kind]}, not {value!r}") from None


def _methods(thing: Any, about: Declared) -> dict[str, tuple[Callable[..., Any], Declared]]:
    """What is called for each signature, with what its decorator said. Raises ModelError when there is nothing."""
    found: dict[str, tuple[Callable[..., Any], Declared]] = {}
    names = {} if inspect.isroutine(thing) else {key: 1 for kind in reversed(type(thing).__mro__) for key in vars(kind)}
    marked = [fn for fn in (getattr(thing, key, None) for key in names) if callable(fn) and declared(fn).method]
    for fn in marked:
        said = declared(fn)
        name = said.name or (_name(fn) if len(marked) > 1 else DEFAULT_SIGNATURE)
        if name in found:
            raise ModelError(f"{_name(thing)} has two signatures {name!r}")
        found[name] = (fn, said)
    if found:
        if about.inputs or about.outputs:
            raise ModelError(f"{_name(thing)} declares inputs or outputs beside its signatures'")
        return found
    fn = thing if inspect.isroutine(thing) else getattr(thing, _MAIN, thing)
    if not callable(fn):
        raise ModelError(f"{_name(thing)} is no model: it can neither be called nor has it a method {_MAIN}")
    return {DEFAULT_SIGNATURE: (fn, about)}


def _refuse(thing: Any, options: Sequence[str]) -> None:
    if options:
        raise ModelError(f"{_name(thing)} has no option {', '.join(options)}")


def _default(thing: Any, signatures: Mapping[str, Declared]) -> str:
    marked = [name for name, said in signatures.items() if said.default]
    if len(marked) > 1:
        raise ModelError(f"{_name(thing)} has several default signatures: {', '.join(marked)}")
    return marked[0] if marked else _MAIN if _MAIN in signatures else next(iter(signatures))


def _makes_model(thing: Any) -> bool:
    made = type_hints(thing).get("return") if inspect.isroutine(thing) else None
    return inspect.isclass(made) and issubclass(made, Model)


def _name(thing: Any) -> str:
    name = getattr(thing, "__name__", None)
    return name if isinstance(name, str) else type(thing).__name__


def _doc(thing: Any) -> str | None:
    doc = getattr(thing, "__doc__", None)
    return doc if isinstance(doc, str) else None
