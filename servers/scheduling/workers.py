"""Threads that run a model while the event loop goes on: one hop there, one hop back."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

from tensorwire.servers.model import RequestError

__all__ = ["Workers"]

_log = logging.getLogger("tensorwire.service")

_Job = tuple[Callable[..., Any], tuple[Any, ...], Callable[[Any], None]]


class Workers:
    """A fixed number of daemon threads that take jobs in order of arrival.

    All methods are called on the event loop's thread, the one of ``loop`` (None: of the first ``submit``). At
    most ``max_queue`` jobs wait at a time, beside those that run.
    """

    def __init__(
        self,
        size: int,
        *,
        name: str = "model",
        max_queue: int = 1024,
        loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        if size < 1 or max_queue < 0:
            raise ValueError(f"size is 1 or more and max_queue 0 or more, not {size} and {max_queue}")
        self.size = size
        self.max_queue = max_queue
        self.in_flight = 0
        """Jobs whose ``done`` has not been called yet."""
        self._loop = loop
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._finished: deque[tuple[Callable[[Any], None], Any]] = deque()
        self._woken = False
        self._closed = False
        self._idle: list[asyncio.Future[None]] = []
        self._threads = [
            threading.Thread(
                target=_work, args=(self._jobs.get, self._finish), name=f"{name}-{i}", daemon=True
            )
            for i in range(size)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, fn: Callable[..., Any], args: tuple[Any, ...], done: Callable[[Any], None]) -> None:
        """Run ``fn(*args)`` in a thread, then ``done(result)`` on the loop; what ``fn`` raises is the result.

        Raises RequestError 503 when too many jobs wait, or after ``close``; then ``done`` is not called.
        """
        if self.in_flight >= self.size + self.max_queue:
            raise RequestError(503, f"busy: {self.in_flight - self.size} requests are waiting")
        if self._closed:
            raise RequestError(503, "shutting down")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.in_flight += 1
        self._jobs.put((fn, args, done))

    async def drain(self, timeout: float | None = None) -> bool:
        """Wait until no job is left, at most ``timeout`` seconds; True when none is. Jobs are still taken."""
        if self.in_flight:
            waiter = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            await asyncio.wait((waiter,), timeout=timeout)
        return not self.in_flight

    def close(self) -> None:
        """Take no more jobs; the threads end after the queued ones. Does not wait. Can be called twice."""
        if not self._closed:
            self._closed = True
            for _ in self._threads:
                self._jobs.put(None)

    def _finish(self, done: Callable[[Any], None], result: Any) -> None:
        """On a worker's thread: hand a result to the loop, and wake it unless that is under way already."""
        self._finished.append((done, result))
        if not self._woken:
            self._woken = True
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(self._deliver)
            except RuntimeError:  # the loop is closed: nobody waits for results
                self._finished.clear()

    def _deliver(self) -> None:
        # The flag falls before the queue is read: a result that comes in between wakes the loop once more for
        # nothing, where the other order could leave it lying.
        self._woken = False
        finished = self._finished
        # Those that come in while this runs wait for the next turn of the loop: sockets must not starve.
        for _ in range(len(finished)):
            done, result = finished.popleft()
            self.in_flight -= 1
            try:
                done(result)
            except Exception:
                _log.exception("a result could not be delivered")
        if not self.in_flight:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()


def _work(get: Callable[[], _Job | None], finish: Callable[[Callable[[Any], None], Any], None]) -> None:
    while (job := get()) is not None:
        fn, args, done = job
        try:
            result = fn(*args)
        except BaseException as error:  # the thread serves other requests after this one
            result = error
        # The request's arrays must be free to go when `done` runs, and this thread may wait for hours then.
        del job, fn, args
        finish(done, result)
        del done, result
