"""How many inputs an operator takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

from tensorwire.servers.model import ModelError

__all__ = ["taking"]


class _Layer(Protocol):
    @property
    def inputs(self) -> tuple[str, ...]: ...


_L = TypeVar("_L", bound=_Layer)
_Convert = Callable[[_L], str | Sequence[str]]


def taking(least: int, most: int | None, convert: _Convert[_L]) -> _Convert[_L]:
    """``convert`` behind a check of how many inputs came (``most`` None: any number more)."""

    def checked(layer: _L) -> str | Sequence[str]:
        count = len(layer.inputs)
        if count < least or (most is not None and count > most):
            wanted = f"{least} or more" if most is None else str(least) if least == most else f"{least} to {most}"
            raise ModelError(f"takes {wanted} inputs, {count} are named")
        return convert(layer)

    return checked
