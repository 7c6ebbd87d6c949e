"""Bodies of connections that were handed over count in the limit of memory from the first byte on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post
from waiting import Gate, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

LIMIT = 1 << 20
SMALL = bytes(tw.encode(tw.Request({"x": np.zeros(3, np.float32)})))
LARGE = bytes(tw.encode(tw.Request({"x": np.zeros(25_000, np.float32)})))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


@pytest.fixture
def server(gate: Gate) -> Iterator[BackgroundServer]:
    with BackgroundServer(gate.model, memory_limit=LIMIT) as server:
        yield server
        gate.open()
        wait_until(lambda: server.app.budget.used == 0)


def test_a_body_behind_the_request_in_flight(server: BackgroundServer, gate: Gate) -> None:
    budget = server.app.budget
    with Raw(server.url) as raw:
        raw.send(chunked(SMALL) + chunked(LARGE, 30_000))
        gate.wait_entered()
        wait_until(lambda: budget.used >= len(SMALL) + len(LARGE))
        assert budget.used < len(SMALL) + len(LARGE) + 1000
        gate.open()
        assert raw.answer().status == raw.answer().status == 200
        wait_until(lambda: budget.used == 0)


def test_who_leaves_takes_it_along(server: BackgroundServer, gate: Gate) -> None:
    with Raw(server.url) as raw:
        raw.send(chunked(SMALL) + chunked(LARGE, 30_000))
        gate.wait_entered()
        wait_until(lambda: server.app.budget.used >= len(LARGE))
        raw.reset()
    wait_until(lambda: server.app.budget.used < len(LARGE))


def test_a_body_that_nobody_reads(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        for _ in range(20):
            raw.send(head("POST", "/healthz", f"Content-Length: {len(LARGE)}") + LARGE)
            assert raw.answer().status == 405
        wait_until(lambda: server.app.budget.used == 0)


@pytest.mark.parametrize("nbytes", [LIMIT, LIMIT // 2])
def test_a_body_that_waits_for_memory_is_not_in_its_own_way(server: BackgroundServer, gate: Gate, nbytes: int) -> None:
    """A part of it is in memory already, and counts; there must be room for the rest only."""
    budget = server.app.budget
    body = bytes(nbytes)
    with Raw(server.url) as raw, Raw(server.url) as other:
        assert raw.get("/healthz").status == 200
        other.send(post(LARGE))
        gate.wait_entered()
        taken = LIMIT - budget.used
        assert budget.take(taken)
        raw.send(post(body))
        wait_until(lambda: budget.waiting)
        assert budget.used > LIMIT
        server.loop.call_soon_threadsafe(budget.give, taken)
        gate.open()
        assert other.answer().status == 200
        assert raw.answer().status == 400  # read as a whole
    wait_until(lambda: budget.used == 0)


def test_while_they_take_all_memory_others_wait(server: BackgroundServer, gate: Gate) -> None:
    budget = server.app.budget
    with Raw(server.url) as raw, Raw(server.url) as waits:
        raw.send(chunked(SMALL) + chunked(LARGE, 30_000))
        gate.wait_entered()
        wait_until(lambda: budget.used >= len(LARGE))
        rest = LIMIT - budget.used
        assert budget.take(rest)
        waits.send(post(SMALL))
        wait_until(lambda: budget.waiting)
        server.loop.call_soon_threadsafe(budget.give, rest)
        gate.open()
        assert waits.answer().status == 200
