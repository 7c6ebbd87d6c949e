"""The tensors that the annotations of a Python function speak of."""

from __future__ import annotations

import inspect
import logging
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Any, get_args, get_origin, is_typeddict

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import parse_dtype, parse_spec

__all__ = ["is_mapping", "output_specs", "tensor_spec", "type_hints"]

_log = logging.getLogger("tensorwire.engines")

_ONE = "output"  # the name of a result that has none


def type_hints(fn: Callable[..., Any]) -> dict[str, Any]:
    """The annotations of a function, method or callable object, 'return' among them, as objects.

    Those that cannot be resolved are left out, with a warning in the log.
    """
    target: Any = fn.func if isinstance(fn, partial) else fn
    if not (inspect.isroutine(target) or inspect.isclass(target)):
        target = type(target).__call__
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception as error:
        name = getattr(target, "__qualname__", repr(target))
        _log.warning("annotations of %s are not used: %s: %s", name, type(error).__name__, error)
        return {}


def tensor_spec(hint: Any, name: str) -> TensorSpec | None:
    """The tensor that an annotation declares: an ndarray, NDArray[dtype], or Annotated with a text or TensorSpec.

    None when it declares none. Raises ModelError when its text cannot be read, or is beside another type.
    """
    if get_origin(hint) is Annotated:
        kind, *notes = get_args(hint)
        plain = tensor_spec(kind, name)
        for note in notes:
            if isinstance(note, TensorSpec):
                return note
            if isinstance(note, str):
                if plain is None and kind is not Any:
                    if is_mapping(kind):
                        return None
                    raise ModelError(
                        f"{name!r} is declared as {note!r} and annotated as {kind}: models get numpy arrays"
                    )
                return parse_spec(note, name)
        return plain
    if hint is np.ndarray:
        return TensorSpec(name)
    if get_origin(hint) is np.ndarray:
        try:
            return TensorSpec(name, _scalar(get_args(hint)))
        except ModelError as error:
            raise ModelError(f"{name!r} is annotated as {hint}: {error}") from None
    return None


def output_specs(hint: Any) -> tuple[TensorSpec, ...] | None:
    """The outputs that a return annotation declares: one tensor, a tuple of them, a NamedTuple, a TypedDict.

    None when it declares none. Those without a name are 'output', or 'output_0', 'output_1', ...
    """
    one = tensor_spec(hint, _ONE)
    if one is not None:
        return (one,)
    if get_origin(hint) is tuple:
        parts = {f"{_ONE}_{i}": part for i, part in enumerate(get_args(hint))}
    elif is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields")):
        parts = typing.get_type_hints(hint, include_extras=True)
    else:
        return None
    specs = [tensor_spec(part, name) for name, part in parts.items()]
    found = tuple([spec for spec in specs if spec is not None])
    return found if found and len(found) == len(specs) else None


def is_mapping(hint: Any) -> bool:
    """The annotation is a dict or a Mapping of whatever."""
    kind = get_origin(hint) or hint
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _scalar(args: tuple[Any, ...]) -> np.dtype[Any] | None:
    """The dtype in NDArray[X]; None for an X that is abstract or a variable. Raises ModelError: the wire has none."""
    inner = get_args(args[-1]) if args else ()
    kind = inner[0] if inner else None
    if not (isinstance(kind, type) and issubclass(kind, np.generic)):
        return None
    if issubclass(kind, np.character | np.object_):
        return np.dtype(object)
    concrete = kind in np.sctypeDict.values() or kind.__module__ == "ml_dtypes"
    return parse_dtype(np.dtype(kind).name) if concrete else None
