"""Coroutine functions as ordinary ones: they all run on one event loop, in a thread of its own."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable
from functools import partial
from typing import Any

__all__ = ["LoopThread", "is_coroutine_function"]


class LoopThread:
    """An event loop that is started by the first call, so that a process may fork before it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def wrap(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """The coroutine function as one that waits, in whatever thread calls it, for the result."""
        return partial(self._run, fn)

    def close(self) -> None:
        """End the loop; calls under way raise CancelledError. Can be called twice."""
        with self._lock:
            self._closed = True
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self._loop.stop)
                self._loop = None

    def _run(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
        loop = self._started()
        return asyncio.run_coroutine_threadsafe(fn(*args, **kwargs), loop).result()

    def _started(self) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                raise RuntimeError("the model is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                threading.Thread(target=_work, args=(self._loop,), name=f"{self._name}-loop", daemon=True).start()
            return self._loop


def is_coroutine_function(fn: Callable[..., Any]) -> bool:
    """A call of it gives a coroutine: an ``async def``, a partial of one, or an object whose ``__call__`` is one."""
    call = getattr(fn, "__call__", None)  # noqa: B004
    return inspect.iscoroutinefunction(fn) or inspect.iscoroutinefunction(call)


def _work(loop: asyncio.AbstractEventLoop) -> None:
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.get_loop().run_forever()
