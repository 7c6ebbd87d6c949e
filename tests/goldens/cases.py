"""What a refused message comes with; the modules bad_* hold one function for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from goldens.assemble import Assembler


@dataclass(frozen=True)
class Bad:
    buf: bytes
    text: str
    """What the error says."""
    decode: str = "InferRequest"
    error: str = "DecodeError"
    options: dict[str, Any] = field(default_factory=dict)


def bad(make: Callable[[], Bad]) -> Callable[[], Bad]:
    """Mark a function that makes a golden of its own name."""
    make.is_golden = True  # type: ignore[attr-defined]
    return make


def cases(*modules: ModuleType) -> dict[str, Bad]:
    found = [make for module in modules for make in vars(module).values() if hasattr(make, "is_golden")]
    return {make.__name__: make() for make in found}


def refused(message: Assembler, text: str, decode: str = "InferRequest", **options: Any) -> Bad:
    """A message that is malformed; `text` may have places in it, as `Assembler.tell` takes them."""
    return Bad(message.done(), message.tell(text), decode, options=options)


def over(message: Assembler, text: str, decode: str = "InferRequest", **options: Any) -> Bad:
    """A message that is over one of the limits in `options`, or over the default."""
    return Bad(message.done(), message.tell(text), decode, "LimitError", options)
