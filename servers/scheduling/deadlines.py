"""One timer of the event loop for all deadlines: nearly all are met, and a timer each would cost each a turn of it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from heapq import heapify, heappop, heappush
from math import inf

from tensorwire.servers.scheduling.timed import Timed

__all__ = ["Deadlines"]

_MOST_SETTLED = 64  # jobs that are done and still lie in the heap, beside as many as are not


class Deadlines:
    """Calls ``expire(job)`` at a job's time, unless it is done by then. For the event loop's thread."""

    def __init__(self, expire: Callable[[Timed], None]) -> None:
        self._expire = expire
        self._heap: list[tuple[float, int, Timed]] = []
        self._added = 0
        self._open = 0
        self._armed_for = inf
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        """Entries that are kept, those of jobs that are done included."""
        return len(self._heap)

    def add(self, loop: asyncio.AbstractEventLoop, seconds: float, job: Timed) -> None:
        """Expire the job in so many seconds."""
        when = loop.time() + seconds
        self._added += 1
        self._open += 1
        heappush(self._heap, (when, self._added, job))
        if when < self._armed_for:
            self._arm(loop, when)

    def settled(self) -> None:
        """A job that was added is done, in time."""
        self._open -= 1
        if len(self._heap) > 2 * self._open + _MOST_SETTLED:
            self._heap = [entry for entry in self._heap if not entry[2].done]
            heapify(self._heap)

    def _arm(self, loop: asyncio.AbstractEventLoop, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._armed_for = when
        self._timer = loop.call_at(when, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._armed_for = inf
        now = loop.time()
        while self._heap and (self._heap[0][2].done or self._heap[0][0] <= now):
            job = heappop(self._heap)[2]
            if not job.done:
                self._open -= 1
                self._expire(job)
        if self._heap and self._heap[0][0] < self._armed_for:
            self._arm(loop, self._heap[0][0])
