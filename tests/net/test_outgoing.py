"""Answers that go to the system at once, and those that have to wait: in order, none lost, on any loop."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import numpy as np
from bare_server import Echo, Peer, Scenario, post

import tensorwire as tw


def numbered(i: int, size: int = 1000) -> bytes:
    return bytes(tw.encode(tw.Request({"x": np.full(size, i, np.float32)})))


async def first(peer: Peer) -> float:
    status, _, body = await peer.answer()
    assert status == 200
    x = tw.decode(body, tw.Response).outputs["x"]
    assert (x == x[0]).all()
    return float(x[0])


def test_answers_that_nobody_reads_for_a_while_come_in_order(play: Callable[[Scenario], Echo]) -> None:
    count = 3000  # 12 MB of answers: more than the system keeps for a connection

    async def scenario(peer: Peer) -> None:
        (connection,) = peer.handler.open
        sending = asyncio.ensure_future(peer.send(b"".join(post(numbered(i)) for i in range(count))))
        await peer.until(lambda: connection.unread)
        assert len(peer.handler.log) < count
        assert [await first(peer) for _ in range(count)] == list(range(count))
        await sending

    assert len(play(scenario).log) == 3000


def test_small_answers_behind_large_ones(play: Callable[[Scenario], Echo]) -> None:
    sizes = [10, 200_000, 10, 3000, 200_000, 200_000, 1, 3000]  # by the transport, and past it

    async def scenario(peer: Peer) -> None:
        await peer.send(b"".join(post(numbered(i, size)) for i, size in enumerate(sizes)))
        assert [await first(peer) for _ in sizes] == list(range(len(sizes)))

    play(scenario)


def test_a_small_answer_to_a_peer_that_has_gone(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        await peer.until(lambda: peer.handler.waiting)
        exchange = peer.handler.waiting.pop()
        sock = peer.writer.transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # a reset, not an end
        peer.writer.transport.abort()
        await peer.until(lambda: exchange.abandoned)
        peer.handler.answer(exchange)  # dropped

    assert play(scenario).log == []


def test_an_answer_while_the_connection_is_closing(play: Callable[[Scenario], Echo]) -> None:
    """The descriptor of a transport that closes may be another connection's by now: nothing is written to it."""

    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        await peer.until(lambda: peer.handler.waiting)
        (connection,) = peer.handler.open
        connection.abort()
        peer.handler.answer(peer.handler.waiting.pop())
        assert await peer.ended()

    play(scenario)
