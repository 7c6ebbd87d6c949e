"""A job with a deadline: it ends for its caller at the deadline, wherever it is by then."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["Late", "Timed"]

Late = Callable[[bool, str], Any]
"""``late(running, why)``: the result of a job whose deadline has passed in a thread (True) or in the queue."""


class Timed:
    """Calls ``done`` once: with the result of ``fn``, or at the deadline with what ``late`` returns.

    ``__call__`` runs on a worker's thread; all else on the event loop's. A job that is given up in the queue lets go
    of ``fn``, and with it of the request's arrays; one that is given up while it runs holds them until it returns.
    """

    __slots__ = ("_claim", "_done", "_late", "expired", "ran")

    def __init__(self, fn: Callable[[], Any], done: Callable[[Any], None], late: Late) -> None:
        # Whoever pops it, a thread or the deadline, has it: list.pop is atomic.
        self._claim = [fn]
        self._done: Callable[[Any], None] | None = done
        self._late = late
        self.expired = False
        """The deadline came first."""
        self.ran = False
        """It had begun to run when the deadline came."""

    def __call__(self) -> Any:
        """What ``fn`` returns or raises; None when the deadline has passed."""
        try:
            fn = self._claim.pop()
        except IndexError:
            return None
        return fn()

    def finish(self, result: Any) -> None:
        """The result has come, in time."""
        self._end(result)

    @property
    def done(self) -> bool:
        """It has been answered."""
        return self._done is None

    def give_up(self) -> None:
        """The deadline has come; ``end_late`` is to follow."""
        self.expired = True
        try:
            self._claim.pop()
        except IndexError:
            self.ran = True

    def end_late(self, why: str) -> None:
        """Answer a job that was given up."""
        self._end(self._late(self.ran, why))

    def _end(self, result: Any) -> None:
        done, self._done = self._done, None
        del self._late
        if done is not None:
            done(result)
