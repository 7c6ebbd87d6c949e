"""Starting threads from an event loop's thread, which must not wait for them."""

from __future__ import annotations

import _thread
from collections.abc import Callable, Sequence
from threading import Thread

__all__ = ["start_aside"]


def start_aside(threads: Sequence[Thread], failed: Callable[[RuntimeError, int], None]) -> None:
    """Start threads, in order, some time soon; returns at once.

    ``Thread.start`` waits until the new thread runs, for which that needs a core and the interpreter lock: some ms
    where others want them too, and an event loop stands still meanwhile. So another thread, which nobody waits for,
    starts them. ``failed`` is called there, with the error and how many were started, when the system has no thread
    for one.

    Raises RuntimeError when it has none for a start.
    """
    _thread.start_new_thread(_start, (threads, failed))


def _start(threads: Sequence[Thread], failed: Callable[[RuntimeError, int], None]) -> None:
    for started, thread in enumerate(threads):
        try:
            thread.start()
        except RuntimeError as error:
            failed(error, started)
            return
