"""Waiting for other threads without guessing how long they take."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

PATIENCE = 60.0  # seconds before a test fails


def wait_until(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    give_up = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < give_up, "waited in vain"
        time.sleep(0.005)


def on_loop(loop: asyncio.AbstractEventLoop, call: Callable[[], Any]) -> None:
    """Run a call on a loop of another thread and wait for it."""
    done = threading.Event()

    def run() -> None:
        try:
            call()
        finally:
            done.set()

    loop.call_soon_threadsafe(run)
    assert done.wait(PATIENCE), "waited in vain"


class Gate:
    """A model that answers with its inputs, but only once the gate is open."""

    def __init__(self) -> None:
        self._entered = threading.Event()
        self._opened = threading.Event()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.open()

    def model(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self._entered.set()
        assert self._opened.wait(PATIENCE), "waited in vain"
        return inputs

    def wait_entered(self) -> None:
        """Wait until a request is in the model."""
        assert self._entered.wait(PATIENCE), "waited in vain"

    def open(self) -> None:
        self._opened.set()
