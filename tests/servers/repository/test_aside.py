"""Calls on threads that nobody waits for."""

from __future__ import annotations

import asyncio
import threading

import pytest

from tensorwire.servers.repository.aside import run_aside, wait_for


def test_results_and_errors_come_back() -> None:
    async def main() -> None:
        value = run_aside(lambda: 7)
        assert await wait_for(value, 20) and value.result() == 7
        error = run_aside(lambda: [][0])
        assert await wait_for(error, 20)
        with pytest.raises(IndexError):
            error.result()

    asyncio.run(main())


def test_a_call_that_hangs_is_not_waited_for() -> None:
    gate = threading.Event()

    async def main() -> None:
        call = run_aside(lambda: gate.wait(60))
        assert not await wait_for(call, 0.01)
        waiting = asyncio.ensure_future(wait_for(call, 20))
        await asyncio.sleep(0.01)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(main())
    gate.set()  # its thread finds no loop to tell


def test_a_cancellation_is_not_lost_when_the_call_ends_at_the_same_time() -> None:
    async def main() -> None:
        for _ in range(50):
            gate = threading.Event()
            call = run_aside(gate.wait)
            waiting = asyncio.ensure_future(wait_for(call, 20))
            await asyncio.sleep(0)
            gate.set()
            call.result(60)
            await asyncio.sleep(0)  # the loop is told, and nothing else
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting

    asyncio.run(main())
