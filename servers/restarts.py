"""How processes that died are told of, and when they are started again."""

from __future__ import annotations

import signal

__all__ = ["Backoff", "how_ended"]

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0  # seconds; doubles while they die young
_YOUNG = 10.0  # seconds


class Backoff:
    """The pauses before a process is started again."""

    def __init__(self) -> None:
        self._next = _FIRST_PAUSE

    def pause(self, lived: float) -> float:
        """Seconds to wait after a process that lived for so many seconds."""
        pause = self._next if lived < _YOUNG else _FIRST_PAUSE
        self._next = min(2 * pause, _LONGEST_PAUSE)
        return pause


def how_ended(code: int) -> str:
    """'was ended by SIGKILL' or 'ended with 3', for an exit code as subprocess gives it."""
    if code >= 0:
        return f"ended with {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # a real-time signal
        return f"was ended by signal {-code}"
