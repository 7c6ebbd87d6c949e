"""Calls that may hang, on threads that hold nothing up: not other calls, and not the end of the process."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from tensorwire.servers.threads import start_aside

__all__ = ["run_aside", "wait_for"]

T = TypeVar("T")


def run_aside(call: Callable[[], T], name: str = "remote") -> Future[T]:
    """What a call returns or raises, made on a thread of its own, of this name, that ends with the process at the
    latest: the interpreter waits for a pool's threads when it ends, and a call may take for ever. Never waits.
    """
    future: Future[T] = Future()
    future.set_running_or_notify_cancel()

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    thread = threading.Thread(target=run, name=name, daemon=True)
    start_aside([thread], lambda error, _: future.set_exception(error))
    return future


async def wait_for(future: Future[T], seconds: float) -> bool:
    """Wait until a call is over, but not for longer than this; True when it is over."""
    over = asyncio.Event()
    loop = asyncio.get_running_loop()

    def tell(_: Future[T]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed by now
            loop.call_soon_threadsafe(over.set)

    future.add_done_callback(tell)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):  # asyncio.wait_for of Python 3.11 may lose a cancellation
            await over.wait()
    return future.done()
