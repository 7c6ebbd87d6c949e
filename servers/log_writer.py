"""Log lines on their way to a descriptor, written by a thread of their own: who logs never waits for who reads."""

from __future__ import annotations

import contextlib
import logging
import os
import select
import threading
import weakref

__all__ = ["LogWriter", "flush_logs"]

_MOST = 1 << 20  # bytes
_PAUSE = 0.01
_PATIENCE = 1.0  # seconds that flush waits

_writers: weakref.WeakSet[LogWriter] = weakref.WeakSet()


class LogWriter(logging.Handler):
    """Writes to ``fd``. A full pipe, a stopped terminal or a slow disk hold up the thread alone.

    At most ``most`` bytes wait. Lines beyond are dropped, as are those that cannot be written, and the log says how
    many when it goes on. Warnings and errors are written at once, other lines a little later, many at a time.
    ``flush`` waits until all is written, but not for long.
    """

    def __init__(self, fd: int, most: int = _MOST) -> None:
        super().__init__()
        self._fd = fd
        self._most = most
        self._begin()
        _writers.add(self)

    def _begin(self) -> None:
        """In a process of its own: what waits is its parent's to write, and threads are not inherited."""
        self._lines: list[bytes] = []
        self._held = 0  # bytes of these, and of those that are being written
        self._dropped = 0
        self._changed = threading.Condition()
        self._hurry = threading.Event()
        self._asleep = False
        self._thread: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        try:
            self._put(self.format(record), record.levelno >= logging.WARNING)
        except Exception:
            self.handleError(record)

    def _put(self, text: str, urgent: bool) -> None:
        line = text.encode(errors="backslashreplace") + b"\n"
        with self._changed:
            if self._held + len(line) > self._most:
                self._dropped += 1
                return
            self._lines.append(line)
            self._held += len(line)
            if self._asleep:
                self._asleep = False
                self._changed.notify_all()
            elif self._thread is None:
                thread = threading.Thread(target=self._run, name="tensorwire-log", daemon=True)
                thread.start()
                self._thread = thread
        if urgent:
            self._hurry.set()

    def flush(self) -> None:
        self._hurry.set()
        with self._changed:
            self._changed.wait_for(lambda: not self._held, _PATIENCE)

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._lines:
                    self._asleep = True
                    self._changed.wait()
            self._hurry.wait(_PAUSE)
            self._hurry.clear()
            with self._changed:
                lines, self._lines = self._lines, []
            self._write_all(lines)

    def _write_all(self, lines: list[bytes]) -> None:
        """Write, make room for others, and tell of what was dropped behind those that wait."""
        written = True
        try:
            self._write(b"".join(lines))
        except OSError:
            written = False
        with self._changed:
            self._held -= sum(map(len, lines))
            if not written:
                self._dropped += len(lines)
            elif self._dropped:
                self._lines.append(self._notice())
                self._held += len(self._lines[-1])
                self._dropped = 0
            self._changed.notify_all()

    def _notice(self) -> bytes:
        text = f"{self._dropped:,} lines of this log are missing: they could not be written in time"
        record = logging.LogRecord("tensorwire.server", logging.WARNING, __file__, 0, text, None, None)
        return self.format(record).encode() + b"\n"

    def _write(self, data: bytes) -> None:
        left = memoryview(data)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
            except BlockingIOError:  # whoever opened it has made it so
                room = select.poll()
                room.register(self._fd, select.POLLOUT)
                room.poll()


def flush_logs() -> None:
    """Write what waits in every LogWriter, before the process ends or something else is written to the same place."""
    for writer in list(_writers):
        writer.flush()


def _begin_all() -> None:
    for writer in list(_writers):
        with contextlib.suppress(AttributeError):  # it is just being made
            writer._begin()


os.register_at_fork(after_in_child=_begin_all)
