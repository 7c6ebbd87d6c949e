"""Signals that come while a blocking client waits."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable, Iterator
from time import sleep
from types import FrameType

import numpy as np
import pytest
from scripted import Start, answer, read_request, until_closed

import tensorwire as tw

BODY = bytes(tw.encode(tw.Response({"y": np.arange(3)})))


@pytest.fixture
def alarms() -> Iterator[Callable[[Callable[[], None]], None]]:
    """alarms(call): a signal every 20 ms from now on, whose handler makes the call."""
    before = signal.getsignal(signal.SIGALRM)

    def alarms(call: Callable[[], None]) -> None:
        def handle(number: int, frame: FrameType | None) -> None:
            call()

        signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.02, 0.02)

    yield alarms
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def late(sock: socket.socket) -> None:
    """Read slowly, and let wait for the answer."""
    sleep(0.2)
    read_request(sock)
    sleep(0.2)
    sock.sendall(answer(BODY))
    until_closed(sock)


@pytest.mark.parametrize("total", [None, 15.0])
def test_a_signal_with_a_handler_is_handled_and_the_call_goes_on(
    start: Start, alarms: Callable[[Callable[[], None]], None], total: float | None
) -> None:
    came: list[int] = []
    with tw.Client(start(late).url, timeout=15, total_timeout=total) as client:
        alarms(lambda: came.append(1))
        # More than the sockets' buffers hold: the client waits for room, too.
        assert client.infer({"x": np.zeros(20_000_000, np.uint8)})["y"].tolist() == [0, 1, 2]
    assert len(came) > 3


def test_an_exception_of_a_handler_ends_the_call(start: Start, alarms: Callable[[Callable[[], None]], None]) -> None:
    def interrupt() -> None:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise KeyboardInterrupt

    def silent(sock: socket.socket) -> None:
        until_closed(sock)

    with tw.Client(start(silent, late).url, timeout=15) as client:
        alarms(interrupt)
        with pytest.raises(KeyboardInterrupt):
            client.infer({"x": np.zeros(3)})
        assert client.infer({"x": np.zeros(3)})["y"].tolist() == [0, 1, 2]  # over another connection
