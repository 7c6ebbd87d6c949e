"""Scenarios: what a peer does to a fresh server, played on every event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from bare_server import LOOPS, Echo, Scenario, peers

import tensorwire as tw


@pytest.fixture(params=LOOPS)
def play(request: pytest.FixtureRequest) -> Callable[[Scenario], Echo]:
    """Runs a scenario against a fresh server, then checks that nothing of it is left."""

    def run(scenario: Scenario) -> Echo:
        handler = Echo()

        async def main() -> None:
            async with peers(handler) as connect:
                await scenario(await connect())

        before = tw.pool_stats()
        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())
        handler.exchanges.clear()
        handler.waiting.clear()
        after = tw.pool_stats()
        assert (after["live_chunks"], after["holds"]) == (before["live_chunks"], before["holds"])
        return handler

    return run
