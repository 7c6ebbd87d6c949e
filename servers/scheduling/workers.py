"""Threads that run a model while the event loop goes on: one hop there, one hop back."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import Empty, SimpleQueue
from typing import Any

from tensorwire.servers.model import RequestError
from tensorwire.servers.scheduling.deadlines import Deadlines
from tensorwire.servers.scheduling.timed import Late, Timed
from tensorwire.servers.threads import start_aside

__all__ = ["Workers"]

_log = logging.getLogger("tensorwire.service")

_Done = Callable[[Any], None] | Timed
_Job = tuple[Callable[..., Any], tuple[Any, ...], _Done]

_UNDELIVERED = "a result could not be delivered"
_STUCK = 1.0  # seconds that every thread must be overdue before new jobs are refused
_MOST_DEAD = 64  # jobs that were given up and still lie in the queue; then it is sifted


class Workers:
    """A fixed number of daemon threads that take jobs in order of arrival.

    All methods are called on the event loop's thread, the one of ``loop`` (None: of the first ``submit``). At
    most ``max_queue`` jobs wait at a time, beside those that run.

    A job whose deadline passes is answered then; its thread stays ``overdue`` until the job returns, since a thread
    cannot be stopped. When all threads have been overdue for a second the pool is ``stuck``: it refuses jobs, those
    that wait as well, until a thread comes back.
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
        self.overdue = 0
        """Threads that run a job whose deadline has passed."""
        self.stuck = False
        """Every thread is overdue, and has been for a while."""
        self._name = name
        self._dead = 0
        self._deadlines = Deadlines(self._expire)
        self._watch: asyncio.TimerHandle | None = None
        self._loop = loop
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._finished: deque[tuple[_Done, Any]] = deque()
        self._woken = False
        self._closed = False
        self._idle: list[asyncio.Future[None]] = []
        work = partial(_work, self._jobs.get, self._finish)
        self._threads = [threading.Thread(target=work, name=f"{name}-{i}", daemon=True) for i in range(size)]
        start_aside(self._threads, self._start_failed)

    def submit(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        done: Callable[[Any], None],
        *,
        seconds: float | None = None,
        late: Late | None = None,
    ) -> None:
        """Run ``fn(*args)`` in a thread, then ``done(result)`` on the loop; what ``fn`` raises is the result.

        With ``seconds`` and ``late``, ``done(late(running, why))`` is called when that time is over first; ``running``
        says whether a thread has begun with the job, ``why`` what kept it waiting ("": only others).

        Raises RequestError 503 when too many jobs wait, when every thread is stuck, or after ``close``; then ``done``
        is not called.
        """
        if self.in_flight >= self.size + self.max_queue:
            raise RequestError(503, f"busy: {self.in_flight - self.size} requests are waiting{self._why()}")
        if self._closed:
            raise RequestError(503, "shutting down")
        if self.stuck:
            raise RequestError(503, self._stuck_text())
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        self.in_flight += 1
        if seconds is None or late is None:
            self._jobs.put((fn, args, done))
            return
        job = Timed(partial(fn, *args) if args else fn, done, late)
        self._jobs.put((job, (), job))
        self._deadlines.add(self._loop, seconds, job)

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
            self._unwatch()
            for _ in self._threads:
                self._jobs.put(None)

    def _start_failed(self, error: RuntimeError, started: int) -> None:
        """On the thread that starts the others. Without any, jobs would wait for ever: it does their work itself."""
        _log.error("%s: %s: %d of %d threads run", self._name, error, max(started, 1), self.size)
        if not started:
            _work(self._jobs.get, self._finish)

    def _finish(self, done: _Done, result: Any) -> None:
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
            if isinstance(done, Timed):
                if done.expired:
                    self._came_back(done)
                    continue
                self._deadlines.settled()
                done = done.finish
            self.in_flight -= 1
            try:
                done(result)
            except Exception:
                _log.exception(_UNDELIVERED)
        self._check_idle()

    def _tell(self, done: Callable[..., None], *args: Any) -> None:
        try:
            done(*args)
        except Exception:
            _log.exception(_UNDELIVERED)

    def _check_idle(self) -> None:
        if not self.in_flight:
            for waiter in self._idle:
                if not waiter.done():
                    waiter.set_result(None)
            self._idle.clear()

    def _expire(self, job: Timed) -> None:
        """A deadline has passed."""
        job.give_up()
        self.in_flight -= 1
        if not job.ran:
            self._dead += 1
            if self._dead >= max(_MOST_DEAD, self.in_flight):
                self._sift()
        else:
            self.overdue += 1
            if self.overdue == self.size and not self._closed:
                assert self._loop is not None
                self._watch = self._loop.call_later(_STUCK, self._give_up)
        self._tell(job.end_late, "" if job.ran else self._why())
        self._check_idle()

    def _came_back(self, job: Timed) -> None:
        """A thread is done with a job that has been answered already."""
        if not job.ran:
            self._dead -= 1
            return
        self.overdue -= 1
        self._unwatch()
        if self.stuck:
            self.stuck = False
            _log.warning("%s: a thread is free again, requests are taken", self._name)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _queued(self) -> list[_Job | None]:
        """Take out what waits, except the jobs that were given up."""
        found: list[_Job | None] = []
        with contextlib.suppress(Empty):
            while True:
                entry = self._jobs.get_nowait()
                if entry is not None and isinstance(entry[2], Timed) and entry[2].expired:
                    self._dead -= 1
                else:
                    found.append(entry)
        return found

    def _sift(self) -> None:
        for entry in self._queued():
            self._jobs.put(entry)

    def _give_up(self) -> None:
        """Every thread is stuck: nobody should wait for them."""
        self._watch = None
        self.stuck = True
        waiting = [entry for entry in self._queued() if entry is not None]
        _log.error("%s: %s; %d waiting requests are refused", self._name, self._stuck_text(), len(waiting))
        for _, _, done in waiting:
            self.in_flight -= 1
            if isinstance(done, Timed):
                self._deadlines.settled()
                done = done.finish
            self._tell(done, RequestError(503, self._stuck_text()))
        self._check_idle()

    def _stuck_text(self) -> str:
        return f"busy: {_held(self.overdue, self.size)}"

    def _why(self) -> str:
        """The reason for a queue, when it is known."""
        return f"; {_held(self.overdue, self.size)}" if self.overdue else ""


def _held(some: int, size: int) -> str:
    if size == 1:
        return "the model's only thread is held past a deadline"
    return f"{'all' if some == size else some} of the model's {size} threads are held past a deadline"


def _work(get: Callable[[], _Job | None], finish: Callable[[_Done, Any], None]) -> None:
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
