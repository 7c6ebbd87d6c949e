"""Say what a Python function, class or method takes and gives, so that it can be served as a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from tensorwire._messages import TensorSpec
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import parse_spec, parse_specs

__all__ = ["Declared", "Specs", "declared", "model", "read_specs", "signature"]

Specs = Mapping[str, str] | Sequence[TensorSpec] | str
"""Tensors as {"x": "float32[?, 4]"}, as "x:float32[?, 4], n:int64", or as TensorSpecs."""

_ATTRIBUTE = "__tensorwire__"
_T = TypeVar("_T", bound=Callable[..., object])


@dataclass(frozen=True, slots=True)
class Declared:
    """What a decorator was told; None and empty text where it was not. ``method``: it is a signature."""

    inputs: tuple[TensorSpec, ...] | None = None
    outputs: tuple[TensorSpec, ...] | None = None
    name: str = ""
    version: str = ""
    description: str = ""
    concurrency: int | None = None
    default: bool = False
    method: bool = False


def model(
    *,
    inputs: Specs | None = None,
    outputs: Specs | None = None,
    name: str = "",
    version: str | int = "",
    description: str = "",
    concurrency: int | None = None,
) -> Callable[[_T], _T]:
    """Declare a function, or a class with ``predict`` or ``__call__``, as a model. It stays as it is.

    ``inputs`` and ``outputs`` come before the annotations. ``name``: the function's or the class's own when empty;
    ``description``: the first line of its docstring; ``version``: '1'. ``concurrency``: calls at once, in as many
    threads (a coroutine function: in as many tasks). Raises ModelError for a spec that cannot be read, and for a
    concurrency below 1.
    """
    if concurrency is not None and concurrency < 1:
        raise ModelError(f"concurrency is 1 or more, not {concurrency}")
    found = Declared(read_specs(inputs), read_specs(outputs), name, str(version), description, concurrency)
    return _attach(found)


def signature(
    *, inputs: Specs | None = None, outputs: Specs | None = None, name: str = "", default: bool = False
) -> Callable[[_T], _T]:
    """Declare a method of a class as a signature of the model; several methods are several signatures.

    ``name``: the method's own when empty. ``default``: requests that name no signature mean this one; without any,
    they mean ``predict``, or else the first method. Raises ModelError for a spec that cannot be read.
    """
    return _attach(Declared(read_specs(inputs), read_specs(outputs), name, default=default, method=True))


def declared(thing: object) -> Declared:
    """What a decorator said of a function, class, instance or method; an empty Declared where none did."""
    found = getattr(thing, _ATTRIBUTE, None)
    return found if isinstance(found, Declared) else Declared()


def read_specs(specs: Specs | None) -> tuple[TensorSpec, ...] | None:
    """TensorSpecs of any of their forms; None for None. Raises ModelError."""
    if specs is None:
        return None
    if isinstance(specs, str):
        return parse_specs(specs)
    if isinstance(specs, Mapping):
        found = [parse_spec(text, name) for name, text in specs.items()]
        for name, spec in zip(specs, found, strict=True):
            if spec.name != name:
                raise ModelError(f"{name!r} is declared under another name: {specs[name]!r}")
        return tuple(found)
    for spec in specs:
        if not isinstance(spec, TensorSpec):
            raise ModelError(f"{spec!r} is no TensorSpec")
    return tuple(specs)


def _attach(found: Declared) -> Callable[[_T], _T]:
    def decorate(thing: _T) -> _T:
        setattr(thing, _ATTRIBUTE, found)
        return thing

    return decorate
