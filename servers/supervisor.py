"""Worker processes: started together, watched, replaced when one dies, stopped in good order.

Each worker is forked and connected to the parent by a pair of sockets: the worker says "ready" on it, or why it cannot
start, and takes its end as the order to stop, so that no worker outlives a parent that was killed.
"""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from tensorwire.errors import TensorwireError
from tensorwire.servers.log_writer import flush_logs
from tensorwire.servers.restarts import Backoff, how_ended

__all__ = ["Supervisor", "SupervisorError", "Work"]

Work = Callable[[int, bool, socket.socket, Callable[[], None]], bool]
"""``work(number, first, parent, ready)`` serves, in a process of its own, until SIGTERM or the end of ``parent``.

``first``: none has been ready before. True: every request was answered."""

_log = logging.getLogger("tensorwire.server")

_GRACE = 5.0  # seconds beyond the drain timeout before a worker is killed
_READY = b"ready"


class SupervisorError(TensorwireError, RuntimeError):
    """The workers cannot start; the text is what the first one said."""


@dataclass(slots=True)
class _Worker:
    number: int
    pid: int
    link: socket.socket | None
    started: float
    ready: bool = False
    said: bytes = b""
    missed: set[signal.Signals] = field(default_factory=set)  # to be passed on when it is ready


class Supervisor:
    """Keeps ``workers`` processes of ``work`` alive.

    ``drain_timeout``: seconds that they take at most to stop; killed a little later. ``forwarded``: signals that are
    passed on to all of them. ``closing`` is called when the workers are about to be stopped. ``run`` must be called on
    the main thread.
    """

    def __init__(
        self,
        work: Work,
        workers: int,
        drain_timeout: float,
        forwarded: Sequence[signal.Signals] = (),
        closing: Callable[[], None] = lambda: None,
    ) -> None:
        self._work = work
        self._count = workers
        self._drain_timeout = drain_timeout
        self._forwarded = frozenset(forwarded)
        self._closing = closing
        self._alive: dict[int, _Worker] = {}
        self._due: dict[int, float] = {0: 0.0}  # worker's number: when it is to be started
        self._backoffs = [Backoff() for _ in range(workers)]
        self._ever_ready = False
        self._stopping = False
        self._killed_at = 0.0
        self._clean = True
        self._selector: selectors.BaseSelector

    def run(self) -> bool:
        """Serve until SIGTERM or SIGINT; a second one ends the workers at once. True when all had finished.

        Raises SupervisorError when the first worker cannot start.
        """
        handled = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD, *self._forwarded)
        with _signals(handled) as wakeup, selectors.DefaultSelector() as self._selector:
            self._selector.register(wakeup, selectors.EVENT_READ)
            try:
                while self._alive or not self._stopping:
                    self._start_due()
                    for key, _ in self._selector.select(self._patience()):
                        if key.fileobj is wakeup:
                            for number in wakeup.recv(4096):
                                self._on_signal(signal.Signals(number))
                        else:
                            self._hear(key.data)
                    self._reap()
                    if self._stopping and time.monotonic() > self._killed_at:
                        self._send(signal.SIGKILL)
            except BaseException:
                self._send(signal.SIGKILL)
                raise
        return self._clean

    def _patience(self) -> float | None:
        """Seconds until something is to be done without being told."""
        now = time.monotonic()
        if self._stopping:
            return max(self._killed_at - now, 0.05)
        return max(min(self._due.values()) - now, 0.0) if self._due else None

    def _on_signal(self, number: signal.Signals) -> None:
        if number in self._forwarded:
            for worker in self._alive.values():
                self._forward(worker, number)
        elif number != signal.SIGCHLD:
            if not self._stopping:
                _log.info("%s: stopping %d workers", number.name, len(self._alive))
            self._stop()

    def _stop(self) -> None:
        self._stopping = True
        self._killed_at = time.monotonic() + self._drain_timeout + _GRACE
        self._due.clear()
        self._closing()
        self._send(signal.SIGTERM)

    def _forward(self, worker: _Worker, number: signal.Signals) -> None:
        if not worker.ready:
            worker.missed.add(number)
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, number)

    def _send(self, number: signal.Signals) -> None:
        for pid in self._alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)

    def _start_due(self) -> None:
        now = time.monotonic()
        for number in [number for number, when in self._due.items() if when <= now]:
            del self._due[number]
            self._start(number)

    def _start(self, number: int) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        sys.stdout.flush()
        sys.stderr.flush()
        # Blocked until the child has its own handlers: through the inherited ones it would wake its parent.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # threads of numpy's, which take care of forks
                pid = os.fork()
            if pid == 0:
                self._be(number, theirs, ours, before)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        worker = self._alive[pid] = _Worker(number, pid, ours, time.monotonic())
        self._selector.register(ours, selectors.EVENT_READ, worker)

    def _be(self, number: int, parent: socket.socket, ours: socket.socket, mask: set[int | signal.Signals]) -> None:
        """In the child: work, and end the process."""
        code = 1

        def ready() -> None:
            parent.send(_READY)

        try:
            ours.close()
            for sibling in self._alive.values():
                if sibling.link is not None:
                    sibling.link.close()
            self._selector.close()
            signal.set_wakeup_fd(-1)
            for other in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(other, signal.SIG_DFL)
            # A terminal sends these to every process, also to one that does not listen yet.
            for other in (signal.SIGINT, *self._forwarded):
                signal.signal(other, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            finished = self._work(number, not self._ever_ready, parent, ready)
            code = 0 if finished else 1
        except (TensorwireError, OSError, ValueError, TypeError) as error:
            parent.send(str(error).encode()[:4096])
        except BaseException:
            traceback.print_exc()
        finally:
            flush_logs()
            with contextlib.suppress(OSError, ValueError):
                sys.stdout.flush()
                sys.stderr.flush()
            # Not sys.exit: what the parent's callers have set up to happen at the end is the parent's to do.
            os._exit(code)

    def _hear(self, worker: _Worker) -> None:
        """A worker has said something, or has ended."""
        if worker.link is None:
            return
        try:
            said = worker.link.recv(4096)
        except OSError:
            said = b""
        if not said:
            self._selector.unregister(worker.link)
            worker.link.close()
            worker.link = None
            return
        worker.said += said
        if worker.said.startswith(_READY) and not worker.ready:
            worker.ready = True
            for number in worker.missed:
                self._forward(worker, number)
            if not self._ever_ready and not self._stopping:
                # The others only now: what keeps one from starting would be told by each.
                self._due.update(dict.fromkeys(range(1, self._count), 0.0))
            self._ever_ready = True

    def _reap(self) -> None:
        for worker in list(self._alive.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if not pid:
                continue
            del self._alive[pid]
            while worker.link is not None:
                self._hear(worker)
            code = os.waitstatus_to_exitcode(status)
            if self._stopping:
                # One that was still starting has not heard the signal as a request to finish.
                self._clean = self._clean and (code == 0 or not worker.ready)
            else:
                self._replace(worker, code)

    def _replace(self, worker: _Worker, code: int) -> None:
        how = how_ended(code)
        reason = worker.said.removeprefix(_READY).decode(errors="replace")
        if not self._ever_ready:
            raise SupervisorError(reason or f"the first worker {how} before it was ready")
        now = time.monotonic()
        self._due[worker.number] = now + self._backoffs[worker.number].pause(now - worker.started)
        _log.error(
            "worker %d (pid %d) %s%s; starting another", worker.number, worker.pid, how, reason and f": {reason}"
        )


@contextlib.contextmanager
def _signals(numbers: Sequence[signal.Signals]) -> Iterator[socket.socket]:
    """A socket on which the numbers of these signals arrive, a byte each."""
    reader, writer = socket.socketpair()
    reader.setblocking(False)
    writer.setblocking(False)
    previous_fd = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    previous = {number: signal.signal(number, lambda *_: None) for number in numbers}
    try:
        yield reader
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(previous_fd)
        reader.close()
        writer.close()
