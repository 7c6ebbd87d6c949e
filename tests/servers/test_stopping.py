"""A server that stops answers every request that it has read."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post
from waiting import Gate, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

BODIES = [bytes(tw.encode(tw.Request({"x": np.full(3, i, np.float32)}))) for i in range(5)]
PAGE = head("GET", "/healthz")


@contextlib.contextmanager
def stopping(server: BackgroundServer, gate: Gate) -> Iterator[None]:
    """The server is being stopped, with a request in its model; the gate opens at the end."""
    gate.wait_entered()
    with Raw(server.url) as other:  # Each answer takes a turn of the loop, in which what was sent is read on.
        for _ in range(10):
            assert other.get("/healthz").status == 200
    assert server._stop is not None
    server.loop.call_soon_threadsafe(server._stop.set)
    wait_until(lambda: server.app._stopping and server.app._listeners[0].sock.fileno() < 0)
    yield
    gate.open()


def is_result(raw: Raw, i: int, last: bool) -> bool:
    answer = raw.answer()
    assert (answer.status, answer.fields.get("connection")) == (200, "close" if last else None)
    return bool(tw.decode(answer.body, tw.Response).outputs["x"][0] == i)


@pytest.mark.parametrize("send", [post, chunked])
def test_requests_behind_the_one_in_flight_are_answered(send: Callable[[bytes], bytes]) -> None:
    with Gate() as gate, BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        raw.send(b"".join(map(send, BODIES)) + send(BODIES[0])[:-1])
        with stopping(server, gate):
            pass
        for i in range(len(BODIES)):
            assert is_result(raw, i, i == len(BODIES) - 1)
        assert raw.at_end()


@pytest.mark.parametrize("behind", [post, chunked])
def test_those_of_several_protocols(behind: Callable[[bytes], bytes]) -> None:
    with Gate() as gate, BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        raw.send(post(BODIES[0]) + post(BODIES[1]) + PAGE + behind(BODIES[2]))
        with stopping(server, gate):
            pass
        assert is_result(raw, 0, False) and is_result(raw, 1, False)
        assert raw.answer().status == 200
        assert is_result(raw, 2, True)
        assert raw.at_end()


@pytest.mark.parametrize("send", [post, chunked])
def test_what_comes_later_costs_no_answer(send: Callable[[bytes], bytes]) -> None:
    """Sent while the server stops, and never read: closing over it would reset the connection."""
    with Gate() as gate, BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        raw.send(send(BODIES[0]) + send(BODIES[1]))
        with stopping(server, gate):
            raw.send(send(BODIES[2]) * 200)
        assert is_result(raw, 0, False)
        assert is_result(raw, 1, True)
        assert raw.at_end()
