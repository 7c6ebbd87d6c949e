"""A connection that begins to close: what it has read is answered first, and what comes after that is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from bare_server import Echo, Peer, Scenario, post

import tensorwire as tw
from tensorwire._net import Connection

BODIES = [bytes(tw.encode(tw.Request({"x": np.array([i])}))) for i in range(6)]


def test_draining(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        await peer.until(lambda: peer.handler.waiting)
        (connection,) = peer.handler.open
        assert connection.busy
        assert connection.drain() is False
        peer.handler.answer(peer.handler.waiting.pop())
        _, fields, _ = await peer.answer()
        assert fields[b"connection"] == b"close"
        assert await peer.ended()

    play(scenario)


def test_draining_an_idle_connection_closes_it(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(post())
        await peer.answer()
        (connection,) = peer.handler.open
        assert connection.drain() is True
        assert await peer.ended()

    play(scenario)


def the_connection(peer: Peer) -> Connection:
    (connection,) = peer.handler.open
    return connection


async def all_read() -> None:
    """Wait until the connection has read what was sent: some turns of the loop, a read in each."""
    for _ in range(20):
        await asyncio.sleep(0.002)


async def let_through(peer: Peer, plans: list[tuple[int, bytes | None]]) -> None:
    """Let requests in the handler be answered one by one, each with its number and this Connection field."""
    for i, field in plans:
        await peer.until(lambda: peer.handler.waiting)
        peer.handler.answer(peer.handler.waiting.pop())
        status, fields, body = await peer.answer()
        assert (status, fields.get(b"connection")) == (200, field)
        assert tw.decode(body, tw.Response).outputs["x"].tolist() == [i]


@pytest.mark.parametrize("rest", [b"", post(BODIES[4])[:-1], b"POST / HT", b"rubbish\r\n\r\n"])
def test_what_was_read_whole_is_answered(play: Callable[[Scenario], Echo], rest: bytes) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(b"".join(post(body) for body in BODIES[:4]) + rest)
        await peer.until(lambda: peer.handler.waiting)
        await all_read()
        assert the_connection(peer).drain() is False
        await let_through(peer, [(0, None), (1, None), (2, None), (3, b"close")])
        assert await peer.ended()

    assert play(scenario).log == [200] * 4


def test_what_comes_later_is_not(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post(BODIES[0]) + post(BODIES[1]) + post(BODIES[2])[:-1])
        await peer.until(lambda: peer.handler.waiting)
        await all_read()
        connection = the_connection(peer)
        assert connection.drain() is False
        # More than is read before there is room again: what is left unread must not cost an answer.
        await peer.send(post(BODIES[2])[-1:] + post(BODIES[3]) * 50)
        await all_read()
        assert connection.drain() is False
        await let_through(peer, [(0, None), (1, b"close")])
        assert await peer.ended()

    assert play(scenario).log == [200] * 2


def test_answers_that_are_not_read_hold_no_request_up_for_good(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.max_body = 1 << 30
        await peer.send(post(bytes(tw.encode(tw.Request({"x": np.zeros(20_000_000, np.uint8)})))))
        await peer.until(lambda: peer.handler.log)
        await peer.send(post(BODIES[1]) + post(BODIES[2]))
        await all_read()
        connection = the_connection(peer)
        assert not connection.busy
        assert connection.drain() is False
        assert connection.drain() is False
        peer.handler.hold = True
        assert (await peer.answer())[1].get(b"connection") is None
        await let_through(peer, [(1, None), (2, b"close")])
        assert await peer.ended()

    assert play(scenario).log == [200] * 3


@pytest.mark.parametrize("at_once", [True, False])
def test_a_request_that_waits_for_memory_and_those_behind_it(play: Callable[[Scenario], Echo], at_once: bool) -> None:
    """``at_once``: the one behind it has been read as well; else it is not, and costs no answer."""

    async def scenario(peer: Peer) -> None:
        budget = peer.handler.budget
        loop = asyncio.get_running_loop()
        budget.wake = lambda: loop.call_soon(budget.admit)
        if at_once:  # behind a small body more is read at a time
            await peer.send(post(BODIES[2]))
            await peer.answer()
        rest = budget.limit - budget.used
        assert budget.take(rest)
        await peer.send(post(BODIES[0]) + post(BODIES[1]))
        await peer.until(lambda: budget.waiting)
        assert the_connection(peer).drain() is False
        budget.give(rest)
        for field in [None, b"close"] if at_once else [b"close"]:
            status, fields, _ = await peer.answer()
            assert (status, fields.get(b"connection")) == (200, field)
        assert await peer.ended()

    play(scenario)


def test_a_request_of_another_protocol_is_handed_over_with_those_behind_it(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        behind = b"GET /a HTTP/1.1\r\n\r\n" + post(BODIES[1])
        await peer.send(post(BODIES[0]) + behind)
        await peer.until(lambda: peer.handler.waiting)
        await all_read()
        assert the_connection(peer).drain() is False
        await let_through(peer, [(0, None)])
        assert (await peer.answer())[0] == 204
        assert peer.handler.handed == [behind]

    play(scenario)
