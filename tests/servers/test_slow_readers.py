"""Clients that do not take their answers, or take them slowly, over TCP and over TLS, on every way to an answer."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import ssl
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, cast

import numpy as np
import pytest
from certificates import Authority, client_context
from rawhttp import Raw, chunked, post
from waiting import on_loop, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.fronts.backlog import Backlog
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.outgoing import Outgoing, in_pieces

LARGE = 32 << 20  # bytes; more than the system's buffers take

Connect = Callable[[], Raw]


def on_the_fast_path(raw: Raw, body: bytes) -> None:
    raw.send(post(body))


def handed_over(raw: Raw, body: bytes) -> None:
    raw.get("/healthz")
    raw.send(post(body))


def in_chunks(raw: Raw, body: bytes) -> None:
    raw.send(chunked(body, 1 << 20))


WAYS = [on_the_fast_path, handed_over, in_chunks]


@pytest.fixture(params=["tcp", "tls"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[BackgroundServer, Connect]]:
    """A server whose clock the tests turn, and what connects to it; nothing of it may be left at the end."""
    options: dict[str, Any] = {}
    context: ssl.SSLContext | None = None
    if request.param == "tls":
        authority: Authority = request.getfixturevalue("authority")
        cert, key = authority.issue("slow")
        options, context = {"tls_cert": cert, "tls_key": key}, client_context(authority)
    gc.collect()
    before = tw.pool_stats()["live_chunks"]
    with BackgroundServer(EchoModel(), body_timeout=10, min_rate=16 << 10, **options) as server:
        yield server, lambda: connected(server.url, context)
        wait_until(lambda: server.app.open_connections == 0)
        wait_until(lambda: server.app.budget.used == 0)
    gc.collect()
    assert tw.pool_stats()["live_chunks"] <= before


def connected(url: str, context: ssl.SSLContext | None) -> Raw:
    """A client whose system does not take many megabytes for it in advance."""
    raw = Raw(url, context)
    raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    return raw


class Clock:
    """The time that a server's connections are told, at first what it is."""

    def __init__(self, server: BackgroundServer) -> None:
        self._server = server
        self.passed = 0

    def tick(self) -> None:
        """A second passes."""
        self.passed += 1
        now = self._server.loop.time() + self.passed
        on_loop(self._server.loop, partial(self._server.app.expire, now))


def message(nbytes: int) -> bytes:
    return bytes(tw.encode(tw.Request({"x": np.arange(nbytes, dtype=np.uint8)})))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("takes", [0, 1000], ids=["nothing", "drips"])
def test_a_client_that_does_not_read_is_given_up(
    server: tuple[BackgroundServer, Connect], way: Callable[[Raw, bytes], None], takes: int
) -> None:
    app = server[0].app
    with server[1]() as raw:
        way(raw, message(LARGE))
        wait_until(lambda: app.service.requests == 1)
        clock = Clock(server[0])

        def given_up() -> bool:
            if app.open_connections and takes:
                with contextlib.suppress(OSError):  # given up this moment
                    raw.sock.recv(takes)
            clock.tick()
            return app.open_connections == 0

        wait_until(given_up)
        assert clock.passed > 10
    with server[1]() as raw:
        assert raw.post(message(100)).status == 200


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_stops_after_most_of_its_answer_is_given_up(
    server: tuple[BackgroundServer, Connect], way: Callable[[Raw, bytes], None]
) -> None:
    """What it took quickly is no reason to wait for hours."""
    app = server[0].app
    with server[1]() as raw:
        way(raw, message(LARGE))
        taken = 0
        while taken < LARGE // 2:
            taken += len(raw.sock.recv(1 << 16))
        clock = Clock(server[0])

        def given_up() -> bool:
            clock.tick()
            return app.open_connections == 0

        wait_until(given_up)
        assert clock.passed < 900  # at 16 KiB a second, it would have 1,024 in hand


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_reads_slowly_gets_all_of_it(
    server: tuple[BackgroundServer, Connect], way: Callable[[Raw, bytes], None]
) -> None:
    """2 MiB a second; less would be hidden in the system's buffers, which make room in leaps."""
    body = message(LARGE)
    with server[1]() as raw:
        way(raw, body)
        clock = Clock(server[0])
        came = bytearray(raw.sock.recv(1000))
        size = came.index(b"\r\n\r\n") + 4 + len(body)
        while len(came) < size:
            wanted = min(len(came) + (2 << 20), size)
            while len(came) < wanted:
                part = raw.sock.recv(wanted - len(came))
                assert part, f"closed after {clock.passed} s with {len(came):,} of {size:,} bytes sent"
                came += part
            clock.tick()
    echoed = tw.decode(bytes(came[-len(body) :]), tw.Response).outputs["x"]
    assert np.array_equal(echoed, np.arange(LARGE, dtype=np.uint8))


class FakeTransport:
    """One of which a test says how much is left."""

    left = 0

    def get_write_buffer_size(self) -> int:
        return self.left

    def write(self, data: bytes) -> None:
        pass


def test_what_is_taken_counts_although_more_is_written_meanwhile() -> None:
    transport = FakeTransport()
    outgoing = Outgoing(cast(asyncio.Transport, transport), Limits(body_timeout=10, min_rate=1000), Backlog(1 << 30))
    transport.left = 5000
    outgoing.write(bytes(5000))
    for now in range(1, 100):  # as much is written as was taken
        assert not outgoing.stalled(now)
        outgoing.write(bytes(2000))
    for now in range(100, 110):  # nothing more is
        assert not outgoing.stalled(now)
    assert outgoing.stalled(111)
    outgoing.write(bytes(1))  # a drip, which is progress, but the pace is too slow in the end
    assert not outgoing.stalled(112)
    transport.left = 0
    assert not outgoing.stalled(1000)
    transport.left = 5000
    outgoing.write(bytes(5000))
    for now in range(1001, 1012):  # 1 byte a second
        assert not outgoing.stalled(now)
        transport.left -= 1
    assert outgoing.stalled(1013)


def test_large_answers_go_out_over_tls_a_piece_at_a_time() -> None:
    """Each piece is a view, so that a connection holds copies of one or two and not of the answer."""
    answer = np.arange(1_000_000, dtype=np.uint8)
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": memoryview(answer), "more_body": True})
        await send({"type": "http.response.body", "body": bytes(answer)})

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(in_pieces(app)({"scheme": "https"}, None, send))  # type: ignore[arg-type]
    start, *pieces = sent
    assert start["type"] == "http.response.start"
    assert [piece["more_body"] for piece in pieces] == [True] * 7 + [False]
    assert all(len(piece["body"]) <= 256 << 10 for piece in pieces)
    assert all(np.shares_memory(np.frombuffer(piece["body"], np.uint8), answer) for piece in pieces[:4])
    assert b"".join(piece["body"] for piece in pieces) == bytes(answer) * 2
