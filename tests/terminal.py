"""Commands in a terminal."""

from __future__ import annotations

import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from waiting import PATIENCE

__all__ = ["Terminal", "terminal"]


# In the child and not by preexec_fn, which may hang where other threads hold locks at the fork.
_OWN = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, "-m", "tensorwire", *sys.argv[1:]])
"""


class Terminal:
    """A command in a terminal of its own."""

    def __init__(self, *args: str, columns: int = 160) -> None:
        plain = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self._master, slave = pty.openpty()
        try:
            termios.tcsetwinsize(slave, (30, columns))
            self.process = subprocess.Popen(
                [sys.executable, "-c", _OWN, *args],
                stdin=slave,
                stdout=slave,
                stderr=slave,
                start_new_session=True,
                env={**plain, "TERM": "xterm-256color"},
            )
        finally:
            os.close(slave)
        self.shown = ""

    def press(self, key: bytes) -> None:
        os.write(self._master, key)

    def wait_for(self, *texts: str) -> None:
        until = time.monotonic() + PATIENCE
        while not all(text in self.shown for text in texts):
            assert time.monotonic() < until and self.read(), f"waited in vain: {self.shown[-2000:]!r}"

    def end(self) -> int:
        """The exit code, once all that it wrote is in ``shown``."""
        while self.read():
            pass
        return self.process.wait(PATIENCE)

    def read(self) -> bool:
        assert select.select([self._master], [], [], PATIENCE)[0], f"waited in vain: {self.shown[-2000:]!r}"
        with suppress(OSError):  # EIO: nobody writes any more
            if data := os.read(self._master, 1 << 16):
                self.shown += data.decode(errors="replace")
                return True
        return False

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        os.close(self._master)


@contextmanager
def terminal(*args: str, columns: int = 160) -> Iterator[Terminal]:
    opened = Terminal(*args, columns=columns)
    try:
        yield opened
    finally:
        opened.close()
