"""The deadline of the request that the calling thread works for."""

from __future__ import annotations

from contextvars import ContextVar
from time import perf_counter

__all__ = ["deadline", "time_left"]

deadline: ContextVar[float] = ContextVar("tensorwire_deadline", default=0.0)
"""A time.perf_counter(); 0.0: none."""


def time_left() -> float | None:
    """Seconds until the answer is of no use, below 0 when that is past; None: the request has no deadline."""
    at = deadline.get()
    return at - perf_counter() if at else None
