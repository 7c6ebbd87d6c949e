"""The memory of request bodies is bounded over all connections: who waits, who is refused, and that all goes on."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from bare_server import LOOPS, REQUEST, Echo, Peer, peers, post

import tensorwire as tw
from tensorwire._budget import Budget
from tensorwire._memory import budgeted

Connect = Callable[[], Coroutine[Any, Any, Peer]]
Scenario = Callable[[Echo, Connect], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Callable[[Scenario, Echo], None]:
    """Runs a scenario of several peers against one server, then checks that every byte has been given back."""

    def run(scenario: Scenario, handler: Echo) -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            handler.budget.wake = lambda: loop.call_soon_threadsafe(handler.budget.admit)
            async with peers(handler) as connect:
                await scenario(handler, connect)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())
        handler.exchanges.clear()
        handler.waiting.clear()
        assert (handler.budget.used, handler.budget.waiting) == (0, 0)

    return run


def holding(limit: int, max_waiting: int = 10) -> Echo:
    handler = Echo()
    handler.hold = True
    handler.budget = Budget(limit, max_waiting)
    return handler


def release(handler: Echo) -> None:
    """Answer the oldest request and forget it, which frees its body."""
    exchange = handler.waiting.pop(0)
    handler.exchanges.remove(exchange)
    handler.answer(exchange)


def test_bytes_count_until_the_last_view_is_gone() -> None:
    budget = Budget(1000)
    chunk = budgeted(600, budget)
    assert chunk is not None
    assert budget.used == 600
    assert budgeted(401, budget) is None
    view = memoryview(chunk)
    del chunk
    assert budget.used == 600
    thread = threading.Thread(target=view.release)
    thread.start()
    thread.join()
    del view
    assert budget.used == 0


def test_a_chunk_outlives_its_budget() -> None:
    chunk = budgeted(100, Budget(1000))
    gc.collect()
    assert chunk is not None
    assert len(chunk) == 100


def test_wake_is_called_once_until_admit() -> None:
    budget = Budget(10)
    calls: list[str] = []
    budget.wake = lambda: calls.append("wake")
    assert budget.take(10)
    assert not budget.take(1)
    budget.give(1)
    assert calls == []
    assert budget.wait(5, lambda: calls.append("five"))
    assert budget.wait(1, lambda: calls.append("one"))
    for _ in range(3):
        budget.give(1)
    assert calls == ["wake"]
    budget.admit()
    assert calls == ["wake"]  # four bytes are there: the first in the line wants five, and nobody passes it
    budget.give(1)
    budget.admit()
    assert calls == ["wake", "wake", "five", "one"]
    assert budget.waiting == 0


def test_leaving_the_line_lets_the_next_in() -> None:
    budget = Budget(10)
    calls: list[str] = []
    budget.wake = lambda: calls.append("wake")

    def large() -> None:
        calls.append("large")

    assert budget.take(5)
    assert budget.wait(6, large)
    assert budget.wait(5, lambda: calls.append("small"))
    budget.leave(large)
    budget.leave(large)
    budget.admit()
    assert calls == ["wake", "small"]


@pytest.mark.parametrize("arguments", [(0,), (-1,), (1, -1)])
def test_impossible_budgets(arguments: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="or more"):
        Budget(*arguments)


def test_giving_back_too_much() -> None:
    with pytest.raises(ValueError, match="0 are in use"):
        Budget(1).give(1)
    with pytest.raises(ValueError, match="cannot take"):
        Budget(1).take(-1)


def test_bodies_wait_for_memory(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        made = [await connect() for _ in range(4)]
        for peer in made:
            await peer.send(post())
        await made[0].until(lambda: handler.budget.waiting == 3)
        assert len(handler.waiting) == 1
        for _ in made:
            await made[0].until(lambda: handler.waiting)
            assert handler.budget.used == len(REQUEST)
            release(handler)
        for peer in made:
            assert (await peer.answer())[0] == 200

    play(scenario, holding(len(REQUEST)))


def test_a_waiting_body_is_not_read(play: Callable[[Scenario, Echo], None]) -> None:
    body = bytes(8_000_000)

    async def scenario(handler: Echo, connect: Connect) -> None:
        handler.max_body = 10_000_000
        first, second = await connect(), await connect()
        await first.send(post())
        await first.until(lambda: handler.waiting)
        before = tw.pool_stats()["live_bytes"]
        second.writer.write(post(body, b"expect: 100-continue"))
        await second.until(lambda: handler.budget.waiting)
        await asyncio.sleep(0.05)
        assert second.writer.transport.get_write_buffer_size()  # type: ignore[attr-defined]
        assert tw.pool_stats()["live_bytes"] == before
        release(handler)
        assert (await first.answer())[0] == 200
        await second.until(lambda: handler.waiting)
        release(handler)
        assert (await second.error())[0] == 400  # zeros are no message, but all of them came

    play(scenario, holding(len(body)))


def test_continue_is_said_when_there_is_room(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        first, second = await connect(), await connect()
        await first.send(post())
        await first.until(lambda: handler.waiting)
        await second.send(post(REQUEST, b"expect: 100-continue")[: -len(REQUEST)])
        await second.until(lambda: handler.budget.waiting)
        release(handler)
        assert await second.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await second.send(REQUEST)
        await second.until(lambda: handler.waiting)
        release(handler)
        assert (await second.answer())[0] == 200

    play(scenario, holding(len(REQUEST)))


def test_pipelined_requests_wait_as_well(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        first, second = await connect(), await connect()
        await first.send(post())
        await first.until(lambda: handler.waiting)
        small = bytes(tw.encode(tw.Request({})))
        await second.send(post(small) * 5)
        await second.until(lambda: handler.budget.waiting)
        release(handler)
        handler.hold = False
        await second.until(lambda: not handler.budget.waiting)
        for _ in range(5):
            assert (await second.answer())[0] == 200
            handler.exchanges.clear()

    play(scenario, holding(len(REQUEST)))


def test_a_half_closed_peer_waits_as_well(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        first, second = await connect(), await connect()
        small = bytes(tw.encode(tw.Request({})))
        await second.send(post(small) + post())
        second.writer.write_eof()
        await second.until(lambda: handler.waiting)
        await first.send(post())
        await first.until(lambda: handler.budget.waiting)
        release(handler)  # the small one: the first peer's fits now, and the second's stands behind it
        assert (await second.answer())[0] == 200
        await first.until(lambda: handler.waiting and handler.budget.waiting)
        release(handler)
        assert (await first.answer())[0] == 200
        await second.until(lambda: handler.waiting)
        release(handler)
        assert (await second.answer())[0] == 200
        assert await second.ended()

    play(scenario, holding(len(REQUEST)))


def test_more_are_refused_before_their_body_is_read(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        first, second, third = await connect(), await connect(), await connect()
        await first.send(post())
        await first.until(lambda: handler.waiting)
        await second.send(post())
        await first.until(lambda: handler.budget.waiting)
        await third.send(post()[:-10])
        status, fields, body = await third.answer()
        assert (status, fields[b"retry-after"], fields[b"connection"]) == (503, b"1", b"close")
        assert "1 more requests wait" in tw.decode(body, tw.Response).errors[0].message
        assert await third.ended()
        for peer in (first, second):
            await peer.until(lambda: handler.waiting)
            release(handler)
            assert (await peer.answer())[0] == 200

    play(scenario, holding(len(REQUEST), 1))


def test_who_leaves_makes_room(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        handler.hold = False
        first, second, third = await connect(), await connect(), await connect()
        await first.send(post()[:-1])
        await first.until(lambda: handler.budget.used)
        await second.send(post())
        await second.until(lambda: handler.budget.waiting)
        await third.send(post())
        await third.until(lambda: handler.budget.waiting == 2)
        first.writer.close()
        second.writer.close()

        def admitted() -> bool:
            handler.exchanges.clear()  # the second's, who is answered although nobody reads it
            return not handler.budget.waiting

        await third.until(admitted)
        assert (await third.answer())[0] == 200
        handler.exchanges.clear()

    play(scenario, holding(2 * len(REQUEST) - 1))


def test_waiting_has_a_time_limit(play: Callable[[Scenario, Echo], None]) -> None:
    async def scenario(handler: Echo, connect: Connect) -> None:
        first, second = await connect(), await connect()
        await first.send(post())
        await first.until(lambda: handler.waiting)
        await second.send(post())
        await second.until(lambda: handler.budget.waiting)
        now = asyncio.get_running_loop().time()
        for connection in list(handler.open):
            for later in (0.0, 0.1, 6.0):
                connection.expire(now + later)
        status, fields, body = await second.answer()
        assert (status, fields[b"retry-after"]) == (503, b"1")
        assert "no memory for" in tw.decode(body, tw.Response).errors[0].message
        assert handler.budget.waiting == 0
        release(handler)
        assert (await first.answer())[0] == 200

    play(scenario, holding(len(REQUEST)))
