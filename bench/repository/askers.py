"""``python -m bench.repository.askers URL CLIENTS``: clients that ask one after the other and time each answer.

For each line on standard input it prints the seconds of every answer since the last one, the least and the greatest
value among them, and how many requests failed, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter

import uvloop

from bench.repository.folders import X
from tensorwire import AsyncClient


class Askers:
    """What all clients have seen since the last ``take``."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.values: set[float] = set()
        self.failures: list[str] = []

    async def ask(self, client: AsyncClient) -> None:
        """Ask until the task is cancelled."""
        while True:
            began = perf_counter()
            try:
                value = float((await client.infer({"x": X}))["y"][1])
            except Exception as error:
                self.failures.append(str(error))
                await asyncio.sleep(0.01)
                continue
            self.seconds.append(perf_counter() - began)
            self.values.add(value)

    def take(self) -> str:
        """All of it as JSON."""
        found = {"seconds": self.seconds, "values": sorted(self.values), "failures": self.failures}
        self.seconds, self.values, self.failures = [], set(), []
        return json.dumps(found)


async def main() -> None:
    url, count = sys.argv[1], int(sys.argv[2])
    askers = Askers()
    async with AsyncClient(url, retries=0) as client:
        tasks = [asyncio.ensure_future(askers.ask(client)) for _ in range(count)]
        print(json.dumps("ready"), flush=True)
        while await asyncio.to_thread(sys.stdin.readline):
            print(askers.take(), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main())
