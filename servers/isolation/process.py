"""One run of a model's process, from its start to its end."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import socket
import subprocess
import sys
import threading

from tensorwire.servers.isolation.description import Description, read_description
from tensorwire.servers.isolation.lane import Lane
from tensorwire.servers.isolation.packets import receive_parts, send_parts
from tensorwire.servers.isolation.target import Target
from tensorwire.servers.model import ModelError
from tensorwire.servers.restarts import how_ended

__all__ = ["Ended", "Process"]

_log = logging.getLogger("tensorwire.model")

_CHILD = "tensorwire.servers.isolation.child"
_LONGEST_LINE = 4096  # characters of a line for the log
_KEPT = 256 << 20  # bytes of request blocks that are kept for the next requests, of all lanes together
_LAST = 2.0  # seconds to end when it is asked to, and for its last lines


class Ended(Exception):
    """The process has ended, or says what it must not; the text says how."""


class Process:
    """Starts the process. Only ``kill``, ``shut`` and ``give_back`` may be called on other threads than the one that
    makes this object, which has to live as long as the process: the system ends a process with the thread that started
    it.

    ``idle`` holds the lanes that no call uses, ``ended`` is set when ``how`` it ended is known. Raises OSError.
    """

    def __init__(self, target: Target) -> None:
        self.ended = threading.Event()
        self.how = ""
        self.idle: list[Lane] = []
        self._retired: list[Lane] = []
        self._lanes: list[Lane] = []
        self._target = target
        self._control, theirs = socket.socketpair()
        self._output, output = socket.socketpair()
        try:
            self._popen = _start(theirs, output)
        except BaseException:
            self._control.close()
            self._output.close()
            raise
        finally:
            theirs.close()
            output.close()
        self.pid = self._popen.pid
        self._pidfd = -1
        self._relay = threading.Thread(
            target=_relay, args=(self._output, f"model process {self.pid}"), name="model-log", daemon=True
        )
        try:
            self._pidfd = os.pidfd_open(self.pid)
            self._relay.start()
        except BaseException:  # OSError: old systems, no descriptor left; RuntimeError: no thread left
            self.kill()
            self._popen.wait()
            self._close_all()
            raise

    def load(self) -> Description:
        """Let it load the model, and wait for that. Raises ModelError as the engine did, Ended."""
        message = self._target.message()
        try:
            send_parts(self._control, [message])
            kind, *parts = receive_parts(self._control)
            if kind == b"error":
                raise ModelError(parts[0].decode(errors="replace"))
            return read_description(parts)
        except (EOFError, OSError):
            raise Ended from None
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise Ended(f"says what it must not: {error}") from None

    def open_lanes(self, count: int) -> None:
        """Open as many lanes, which are idle then. Raises Ended."""
        for _ in range(count):
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            except OSError as error:
                raise Ended(f"was killed: no socket is left for its calls: {error}") from None
            lane = Lane(ours, _KEPT // count)
            self._lanes.append(lane)
            self.idle.append(lane)
            try:
                socket.send_fds(self._control, [b"+"], [theirs.fileno()])
            except OSError:
                raise Ended from None
            finally:
                theirs.close()

    def give_back(self, lane: Lane, *, usable: bool) -> None:
        """A call is over; a lane that is not usable is not handed out again. From any thread."""
        lanes = self.idle if usable else self._retired
        lanes.append(lane)
        if self.ended.is_set():
            self._close(lanes)

    @staticmethod
    def _close(lanes: list[Lane]) -> None:
        with contextlib.suppress(IndexError):
            while True:
                lanes.pop().close()  # list.pop is atomic: each is closed once

    def kill(self, how: str = "") -> None:
        """End it at once; ``how`` is what is said of it then."""
        self.how = self.how or how
        with contextlib.suppress(ProcessLookupError):
            self._popen.kill()

    def shut(self) -> None:
        """Ask it to end."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def wait(self) -> None:
        """Wait for its end; then calls end, and ``how`` says how it ended."""
        try:
            watch = select.poll()
            watch.register(self._pidfd, select.POLLIN)
            watch.register(self._control, select.POLLIN)
            watch.poll()
            # It has ended, or was asked to, or has closed what it should not close.
            self._popen.wait(_LAST)
        except subprocess.TimeoutExpired:
            self.kill()
            self._popen.wait()
        self.how = self.how or how_ended(self._popen.returncode)
        for lane in self._lanes:
            # A process that the model has started may still hold the other end.
            lane.shut()
        self._lanes.clear()
        # Before that no lane is closed: its descriptor could be another's by the time it is shut.
        self.ended.set()
        self._close(self.idle)
        self._close(self._retired)

    def clean_up(self) -> None:
        """Take in what it printed last, and close everything; after ``wait``."""
        self._relay.join(_LAST)
        with contextlib.suppress(OSError):
            self._output.shutdown(socket.SHUT_RDWR)
        self._relay.join()
        self._close_all()

    def _close_all(self) -> None:
        if self._pidfd >= 0:
            os.close(self._pidfd)
        self._output.close()
        self._control.close()


def _start(control: socket.socket, output: socket.socket) -> subprocess.Popen[bytes]:
    # -P: modules of the current folder must not stand in for the library's; the target has its own path.
    command = [sys.executable, "-P", "-u", "-m", _CHILD, str(control.fileno()), str(os.getpid())]
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output.fileno(),
        stderr=output.fileno(),
        pass_fds=(control.fileno(),),
        start_new_session=True,
    )


def _relay(source: socket.socket, name: str) -> None:
    """What the process prints, into the log, line by line."""
    with source.makefile("r", encoding="utf-8", errors="replace") as lines:
        while line := lines.readline(_LONGEST_LINE):
            if line := line.rstrip():
                _log.info("%s: %s", name, line)
