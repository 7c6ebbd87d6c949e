"""What all connections of a server share: memory for bodies, and their number; and what each may take its time for."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pytest
from rawhttp import Raw, chunked, post
from waiting import Gate, on_loop, wait_until

import tensorwire as tw
from tensorwire._pace import Pace
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.fronts.limits import Limits

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


def error(body: bytes) -> str:
    return tw.decode(body, tw.Response).errors[0].message


def page_post(raw: Raw) -> None:
    """A flatbuffer on a connection that has been handed over."""
    assert raw.get("/healthz").status == 200
    raw.send(post(BODY))


WAYS: dict[str, Callable[[Raw], None]] = {"fast": lambda raw: raw.send(post(BODY)), "handed over": page_post}


def test_defaults() -> None:
    limits = Limits()
    assert 0 < limits.memory_limit <= 4 << 30
    assert limits.max_connections >= 16
    assert Limits(memory_limit=1000).largest_body == 1000
    assert Limits(max_waiting=0).max_waiting == 0
    with pytest.raises(ValueError, match="memory_limit must be above 0"):
        Limits(memory_limit=0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
def test_memory_is_shared_by_all_connections(gate: Gate, way: Callable[[Raw], None]) -> None:
    with (
        BackgroundServer(gate.model, memory_limit=len(BODY), max_waiting=1) as server,
        Raw(server.url) as first,
        Raw(server.url) as second,
        Raw(server.url) as third,
    ):
        first.send(post(BODY))
        gate.wait_entered()
        way(second)
        wait_until(lambda: server.app.budget.waiting == 1)
        way(third)
        answer = third.answer()
        assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        assert "busy" in error(answer.body)
        assert third.at_end()
        gate.open()
        assert first.answer().status == 200
        assert second.answer().status == 200
        wait_until(lambda: server.app.budget.used == 0)


def test_memory_kept_warm_is_a_part_of_the_limit() -> None:
    before = tw.pool_limit(64 << 20)
    try:
        body = bytes(tw.encode(tw.Request({"x": np.zeros(3 << 20, np.uint8)})))
        for limit, kept in ((8 << 20, False), (16 << 20, True)):  # a quarter of it: 2 MiB, 4 MiB
            tw.pool_trim()
            with BackgroundServer(EchoModel(), memory_limit=limit, pool_idle=1000) as server, Raw(server.url) as raw:
                assert raw.post(body).status == 200
                wait_until(lambda server=server: server.app.budget.used == 0)
                assert (tw.pool_stats()["pooled_bytes"] >= 3 << 20) == kept
        assert tw.pool_limit(1 << 20) == 64 << 20
        with BackgroundServer(EchoModel(), memory_limit=1 << 30):  # one that is less already stays
            assert tw.pool_limit(1 << 20) == 1 << 20
    finally:
        tw.pool_limit(before)


def test_chunked_bodies_count_too(gate: Gate) -> None:
    with (
        BackgroundServer(gate.model, memory_limit=len(BODY) + 50) as server,
        Raw(server.url) as first,
        Raw(server.url) as second,
    ):
        first.send(chunked(BODY))
        gate.wait_entered()
        assert server.app.budget.used == len(BODY)
        second.send(chunked(BODY, 20))
        answer = second.answer()
        assert (answer.status, answer.fields["retry-after"]) == (503, "1")
        assert second.at_end()
        gate.open()
        assert first.answer().status == 200
        wait_until(lambda: server.app.budget.used == 0)


def test_waiting_after_a_hand_over_has_a_time_limit(gate: Gate) -> None:
    with (
        BackgroundServer(gate.model, memory_limit=len(BODY), body_timeout=0.1) as server,
        Raw(server.url) as first,
        Raw(server.url) as second,
    ):
        first.send(post(BODY))
        gate.wait_entered()
        page_post(second)
        assert second.answer().status == 503
        assert server.app.budget.waiting == 0
        gate.open()
        assert first.answer().status == 200


@pytest.mark.parametrize("handed_over", [False, True])
def test_body_over_the_memory_limit_can_never_be_taken(handed_over: bool) -> None:
    with BackgroundServer(EchoModel(), memory_limit=len(BODY) - 1) as server, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        answer = raw.post(BODY)
        assert answer.status == 413
        assert "(--memory-limit)" in error(answer.body)


def test_client_that_leaves_gives_its_memory_back() -> None:
    with BackgroundServer(EchoModel()) as server:
        for way in (post(BODY)[:-1], chunked(BODY)[:-7]):
            with Raw(server.url) as raw:
                raw.send(way)
                wait_until(lambda: server.app.budget.used)
        with Raw(server.url) as raw:
            raw.get("/healthz")
            raw.send(post(BODY)[:-1])
            wait_until(lambda: server.app.budget.used)
        wait_until(lambda: server.app.budget.used == 0)


def test_one_connection_too_many_is_told_so() -> None:
    with (
        BackgroundServer(EchoModel(), max_connections=2) as server,
        Raw(server.url) as fast,
        Raw(server.url) as page,
    ):
        assert fast.post(BODY).status == 200
        assert page.get("/healthz").status == 200
        for _ in range(3):
            with Raw(server.url) as raw:
                answer = raw.answer()
                assert (answer.status, answer.fields["retry-after"]) == (503, "1")
                assert error(answer.body) == "busy: 2 connections are open (--max-connections)"
                assert raw.at_end()
        assert fast.post(BODY).status == 200
        page.sock.close()
        wait_until(lambda: server.app.open_connections == 1)
        with Raw(server.url) as raw:
            assert raw.post(BODY).status == 200


def test_client_that_does_not_read_its_answer_is_given_up() -> None:
    before = tw.pool_stats()["live_chunks"]
    body = bytes(tw.encode(tw.Request({"x": np.zeros(16 << 20, np.uint8)})))
    with BackgroundServer(EchoModel(), body_timeout=5) as server, Raw(server.url) as raw:
        raw.send(post(body))
        wait_until(lambda: server.app.service.requests == 1)
        now = server.loop.time()

        def given_up() -> bool:
            nonlocal now
            now += 10
            on_loop(server.loop, partial(server.app.expire, now))
            return server.app.open_connections == 0

        wait_until(given_up)
        wait_until(lambda: server.app.budget.used == 0)
    gc.collect()
    assert tw.pool_stats()["live_chunks"] == before


def test_idle_server_gives_its_memory_back() -> None:
    body = bytes(tw.encode(tw.Request({"x": np.zeros(8 << 20, np.uint8)})))
    with BackgroundServer(EchoModel(), pool_idle=0.05) as server:
        with Raw(server.url) as raw:
            raw.send(post(body))
            assert raw.answer().status == 200
        wait_until(lambda: server.app.budget.used == 0)
        wait_until(lambda: tw.pool_stats()["pooled_bytes"] == 0)
        assert server.app.service.requests == 1


@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize("way", [post, chunked], ids=["length", "chunked"])
def test_body_that_trickles_is_given_up(way: Callable[[bytes], bytes], handed_over: bool) -> None:
    """Each byte is progress, but at this pace the whole would take for ever."""
    with BackgroundServer(EchoModel(), body_timeout=0.3, min_rate=10_000) as server, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        message = way(bytes(1_000_000))
        raw.send(message[:200])
        sent = 200
        while not raw.readable(0.02):
            raw.send(message[sent : sent + 1])
            sent += 1
        answer = raw.answer()
        assert answer.status == 408
        assert "less than 10,000 bytes a second" in error(answer.body)
        assert raw.at_end()
        wait_until(lambda: server.app.budget.used == 0)


@pytest.mark.parametrize("handed_over", [False, True])
def test_answer_that_is_taken_in_drips_is_given_up(handed_over: bool) -> None:
    body = bytes(tw.encode(tw.Request({"x": np.zeros(32 << 20, np.uint8)})))
    with BackgroundServer(EchoModel(), body_timeout=5, min_rate=1 << 20) as server, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        raw.send(post(body))
        wait_until(lambda: server.app.service.requests == 1)
        now = server.loop.time()

        def given_up() -> bool:
            nonlocal now
            now += 1
            if server.app.open_connections:
                raw.sock.recv(4096)  # progress, once a second of the server's clock
            on_loop(server.loop, partial(server.app.expire, now))
            return server.app.open_connections == 0

        wait_until(given_up)
        wait_until(lambda: server.app.budget.used == 0)
        assert now < server.loop.time() + 60


def test_pace() -> None:
    pace = Pace(10, 100)
    assert [pace.too_slow(now, moved) for now, moved in ((5, 0), (15, 0), (16, 99), (16, 100), (25, 999))] == [
        *(False, False, True),
        *(False, True),
    ]
    pace.begin()
    assert not pace.too_slow(1000, 0)
    assert not Pace(10, 0).too_slow(1e9, 0)
    backlog = Pace(10, 100)
    looks = [(1, 5000), (11, 5000), (12, 4900), (13, 4700), (14, 6000), (15, 5900), (17, 5899)]
    assert [backlog.left_too_long(*look) for look in looks] == [False] * 6 + [True]
    assert not backlog.left_too_long(18, 0)  # all is taken: the next answer starts anew
    assert not backlog.left_too_long(19, 10)
    assert not backlog.left_too_long(28, 10)
