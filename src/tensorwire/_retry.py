"""Whether a request that failed is sent again, and when."""

from __future__ import annotations

from random import uniform
from typing import Final

from tensorwire._limit import TimeLimit
from tensorwire.errors import ConnectionLost, RemoteError

__all__ = ["pause_before"]

_FIRST: Final = 0.1  # seconds before the first retry, twice as many before each one after it
_LONGEST: Final = 5.0
_PATIENCE: Final = 30.0  # a server that asks to wait for longer than this is not asked again
_UNAVAILABLE: Final = 503


def pause_before(attempt: int, error: ConnectionLost | RemoteError, limit: TimeLimit) -> float | None:
    """How many seconds to wait before retry number ``attempt`` (from 0), or None when it is not safe, or too late.

    Sent again is what no answer has begun to come to, and what the server refused with 503 and Retry-After.
    Pauses double, and are shortened at random by up to a half so that clients do not come back all at once.
    """
    pause = min(_LONGEST, _FIRST * 2.0**attempt) * uniform(0.5, 1)
    if isinstance(error, RemoteError):
        if error.status != _UNAVAILABLE or error.retry_after is None or error.retry_after > _PATIENCE:
            return None
        pause += error.retry_after
    elif not error.unanswered:
        return None
    try:
        left = limit.step(None)
    except TimeoutError:
        return None
    return pause if left is None or pause < left else None
