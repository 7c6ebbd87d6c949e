"""``python -m bench.repository.askers URL CLIENTS``: clients that ask one after the other and time each answer.

For a line on standard input it prints a line of JSON: for "until VALUE", once that is answered, the value; for "seen"
the different values and the failures since it was asked last; for "times" the seconds of every answer since then. Times
take this process some tenths of a ms to write, in which its clients wait.
"""

from __future__ import annotations

import asyncio
import json
import sys
from time import perf_counter
from typing import Any

import uvloop

from bench.repository.folders import X
from tensorwire import AsyncClient


class Askers:
    """What all clients have seen."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.values: set[float] = set()
        self.failures: list[str] = []
        self._awaited = 0.0
        self._came = asyncio.Event()

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
            if value == self._awaited:
                self._came.set()

    async def until(self, value: float) -> float:
        """Wait for an answer of this value."""
        self._came.clear()
        self._awaited = value
        await self._came.wait()
        return value

    def seen(self) -> dict[str, list[Any]]:
        """The values and failures since the last call."""
        found = {"values": sorted(self.values), "failures": self.failures}
        self.values, self.failures = set(), []
        return found

    def times(self) -> list[float]:
        """The seconds that answers took since the last call."""
        found, self.seconds = self.seconds, []
        return found


async def main() -> None:
    url, count = sys.argv[1], int(sys.argv[2])
    askers = Askers()
    async with AsyncClient(url, retries=0) as client:
        tasks = [asyncio.ensure_future(askers.ask(client)) for _ in range(count)]
        print(json.dumps("ready"), flush=True)
        while words := (await asyncio.to_thread(sys.stdin.readline)).split():
            found: Any
            match words:
                case ["until", value]:
                    found = await askers.until(float(value))
                case ["seen"]:
                    found = askers.seen()
                case _:
                    found = askers.times()
            print(json.dumps(found), flush=True)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


if __name__ == "__main__":
    uvloop.run(main())
