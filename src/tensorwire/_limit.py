"""How long an exchange may take."""

from __future__ import annotations

from time import monotonic
from typing import Final

_TOLERANCE: Final = 0.01  # seconds by which the kernel's timers may be early


class TimeLimit:
    """How long an exchange may stand still, and how long it may last from now on, in seconds; None: no limit."""

    __slots__ = ("ends", "stall", "total")

    def __init__(self, stall: float | None, total: float | None = None) -> None:
        self.stall = stall
        self.total = total
        self.ends = None if total is None else monotonic() + total

    def step(self, longest: float | None) -> float | None:
        """How many seconds the next step may take, ``longest`` at most. Raises TimeoutError when none are left."""
        if self.ends is None:
            return longest
        left = self.ends - monotonic()
        if left <= 0:
            raise TimeoutError
        return left if longest is None else min(longest, left)

    def passed(self) -> str:
        """Which of the limits has passed, in words."""
        if self.ends is not None and monotonic() >= self.ends - _TOLERANCE:
            return f"no answer within {self.total} s"
        return f"no progress for {self.stall} s"
