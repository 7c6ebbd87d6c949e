"""That a server is left with what it had before: connections, tasks, memory, descriptors."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager

from descriptors import open_descriptors
from waiting import on_loop, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

__all__ = ["nothing_left"]


@contextmanager
def nothing_left(server: BackgroundServer) -> Iterator[None]:
    """Asserts it, once all that was begun in the block has come to its end. The server has done everything once."""
    wait_until(lambda: server.app.open_connections == 0)
    gc.collect()
    before = (open_descriptors(), _tasks(server), tw.pool_stats()["live_chunks"])
    yield
    wait_until(lambda: server.app.open_connections == 0 and server.app.handshakes == 0)
    wait_until(lambda: server.app.budget.used == 0)
    wait_until(lambda: _tasks(server) == before[1])
    gc.collect()
    after = (open_descriptors(), _tasks(server), tw.pool_stats()["live_chunks"])
    # Fewer, when a test before this one has left something to the collector.
    assert all(now <= then for now, then in zip(after, before, strict=True)), f"{before} became {after}"


def _tasks(server: BackgroundServer) -> int:
    found: list[int] = []
    on_loop(server.loop, lambda: found.append(len(asyncio.all_tasks(server.loop))))
    return found[0]
