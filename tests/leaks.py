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
    before = after = _now(server)
    yield

    def settled() -> bool:
        nonlocal after
        app = server.app
        if not app.open_connections == app.handshakes == app.budget.used == 0:
            return False  # A collection would keep the server's thread from getting there.
        after = _now(server)
        # Fewer, when a test before this one has left something to the collector.
        return all(now <= then for now, then in zip(after, before, strict=True))

    # Connections that were dropped before the server accepted them come only now.
    try:
        wait_until(settled)
    except AssertionError:
        left = f"{server.app.open_connections} connections open, {server.app.budget.used:,} bytes in use"
        raise AssertionError(f"{before} descriptors, tasks and chunks became {after}; {left}") from None


def _now(server: BackgroundServer) -> tuple[int, int, int]:
    gc.collect()
    return open_descriptors(), _tasks(server), tw.pool_stats()["live_chunks"]


def _tasks(server: BackgroundServer) -> int:
    found: list[int] = []
    on_loop(server.loop, lambda: found.append(len(asyncio.all_tasks(server.loop))))
    return found[0]
