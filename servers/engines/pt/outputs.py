"""The results of a module by name: modules return a tensor, or tuples, lists, dicts and named tuples of them."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

__all__ = ["by_name", "flat"]


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of a result with their names, in order; None is left out.

    One tensor is 'output', the items of a tuple or list 'output_0', 'output_1', ..., those of a dict, a named
    tuple and a dataclass have its keys or fields. Inside one another the names are joined: (y, (h, c)) has
    'output_0', 'output_1_0', 'output_1_1'.
    """
    items: Iterator[tuple[Any, Any]] | None = None
    if isinstance(value, Mapping):
        items = iter(value.items())
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        items = zip(value._fields, value, strict=True)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = ((field.name, getattr(value, field.name)) for field in dataclasses.fields(value))
    elif isinstance(value, tuple | list):
        name = name or "output"
        items = iter(enumerate(value))
    if items is not None:
        for key, inner in items:
            yield from flat(inner, f"{name}_{key}" if name else str(key))
    elif value is not None:
        yield name or "output", value


def by_name(result: Any, declared: Sequence[str]) -> dict[str, Any]:
    """The leaves of a result under the declared names: by name when it has all of these, else by place.

    Raises LookupError when there are not as many, or when two have the same name.
    """
    leaves = list(flat(result))
    found = dict(leaves)
    if len(found) != len(leaves):
        names = [name for name, _ in leaves]
        twice = next(name for name in names if names.count(name) > 1)
        raise LookupError(f"two outputs are called {twice!r}")
    if not declared or found.keys() >= set(declared):
        return found
    if len(found) != len(declared):
        raise LookupError(f"{len(found)} outputs ({', '.join(found)}) came, {', '.join(declared)} are declared")
    return dict(zip(declared, found.values(), strict=True))
