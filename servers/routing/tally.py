"""What is counted of the requests that a version answers."""

from __future__ import annotations

from array import array

__all__ = ["Tally"]

KEPT = 1024
"""Requests whose times are kept: percentiles are those of the last so many."""

_MASK = KEPT - 1


class Tally:
    """``requests`` that were answered, ``failures`` among them, and ``last``, the time.perf_counter() of the last."""

    __slots__ = ("_recent", "failures", "last", "requests")

    def __init__(self) -> None:
        self.requests = 0
        self.failures = 0
        self.last = 0.0
        self._recent = array("d", bytes(8 * KEPT))

    def add(self, began: float, now: float, failed: bool) -> None:
        """A request that came at ``began`` has its answer ``now``, both by time.perf_counter()."""
        self._recent[self.requests & _MASK] = now - began
        self.requests += 1
        self.last = now
        if failed:
            self.failures += 1

    def percentiles(self, *percents: float) -> list[float]:
        """Seconds from a request's head to its answer, by nearest rank, over the last 1,024; empty before the first."""
        count = min(self.requests, KEPT)
        if not count:
            return []
        times = sorted(self._recent[:count])
        return [times[min(int(count * percent / 100), count - 1)] for percent in percents]
