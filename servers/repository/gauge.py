"""How much memory a model takes, measured while it is loaded."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TypeVar

from tensorwire._memory import pool_stats
from tensorwire.servers.resident import resident, trim_heap

__all__ = ["Gauge"]

T = TypeVar("T")


class Gauge:
    """Measures how much this process grows while something is loaded, for loads that are alone; from any thread."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._running = 0
        self._started = 0

    def measure(self, load: Callable[[], T], *, exact: bool = False) -> tuple[T, int | None]:
        """What ``load`` returns, and the bytes that it took; None when another load was under way meanwhile.

        The bytes are the growth of the resident set, tensors of requests left aside. ``exact``: what the allocator has
        kept of earlier models is given back first, so that it is not taken for free; this holds other threads up for
        some ms. Raises what ``load`` raises.
        """
        with self._guard:
            alone = not self._running
            self._running += 1
            self._started += 1
            mine = self._started
        try:
            if exact:
                trim_heap()
            before = _size()
            loaded = load()
            grown = max(_size() - before, 0)
        finally:
            with self._guard:
                self._running -= 1
                alone = alone and self._started == mine
        return loaded, grown if alone else None


def _size() -> int:
    pool = pool_stats()
    return resident() - pool["live_bytes"] - pool["pooled_bytes"]
