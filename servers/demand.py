"""Requests that wait for a model which is loaded because they ask for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from time import perf_counter

from tensorwire.servers.job import Limit, late
from tensorwire.servers.model import RequestError
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.routing.servables import Asleep

__all__ = ["Demand"]

_Key = tuple[str, int]


class Demand:
    """Has versions loaded by a repository, once for all who ask meanwhile; at most ``most`` requests wait.

    All methods run on the event loop's thread.
    """

    def __init__(self, repository: Repository, most: int) -> None:
        self._repository = repository
        self._most = most
        self._waiting: dict[_Key, set[_Waiter]] = {}
        self._loads: dict[_Key, asyncio.Task[None]] = {}
        self._published: set[_Key] = set()

    @property
    def waiting(self) -> int:
        """Requests that wait."""
        return sum(map(len, self._waiting.values()))

    def wait(
        self, asleep: Asleep, limit: Limit, go_on: Callable[[], None], fail: Callable[[RequestError], None]
    ) -> None:
        """Call ``go_on`` when the version serves, ``fail`` when it cannot, or when the limit's time has passed.

        Raises RequestError 503 when too many wait.
        """
        if self.waiting >= self._most:
            raise RequestError(503, f"busy: {self.waiting} requests wait for models to be loaded")
        key = asleep.name, asleep.number
        waiter = _Waiter(go_on, fail)
        if limit.ms:
            left = max(limit.received + limit.ms / 1e3 - perf_counter(), 0.0)
            waiter.timer = asyncio.get_running_loop().call_later(left, self._give_up, key, waiter, limit)
        self._waiting.setdefault(key, set()).add(waiter)
        if key not in self._loads:
            load = self._loads[key] = asyncio.ensure_future(self._load(key))
            load.add_done_callback(partial(self._over, key))

    def published(self, name: str, number: int) -> None:
        """The version serves. Who waits for it goes on at once, before anything can take it away again."""
        if (name, number) in self._loads:
            self._published.add((name, number))
        for waiter in self._take((name, number)):
            waiter.go_on()

    def close(self) -> None:
        """Nobody waits any longer: who does is answered with 503."""
        for key in list(self._waiting):
            self._fail(key, RequestError(503, "shutting down"))

    async def _load(self, key: _Key) -> None:
        name, number = key
        while self._waiting.get(key):
            self._published.discard(key)
            try:
                reason = await self._repository.demand(name, number)
            except Exception as error:
                reason = repr(error)
            if key not in self._published:
                self._fail(key, RequestError(503, f"model {name!r} version {number} cannot be loaded now: {reason}"))
            # Otherwise who waits now came when it had made room for another already, and has it loaded again.
        self._published.discard(key)

    def _over(self, key: _Key, load: asyncio.Task[None]) -> None:
        del self._loads[key]
        self._fail(key, RequestError(503, "shutting down"))  # there are some if it was cancelled

    def _give_up(self, key: _Key, waiter: _Waiter, limit: Limit) -> None:
        waiting = self._waiting.get(key, set())
        if waiter in waiting:
            waiting.remove(waiter)
            waiter.fail(late(limit.ms, limit.name, limit.received, False, "; it was still being loaded"))

    def _fail(self, key: _Key, error: RequestError) -> None:
        for waiter in self._take(key):
            waiter.fail(error)

    def _take(self, key: _Key) -> list[_Waiter]:
        waiting = list(self._waiting.pop(key, ()))
        for waiter in waiting:
            if waiter.timer is not None:
                waiter.timer.cancel()
        return waiting


class _Waiter:
    __slots__ = ("fail", "go_on", "timer")

    def __init__(self, go_on: Callable[[], None], fail: Callable[[RequestError], None]) -> None:
        self.go_on = go_on
        self.fail = fail
        self.timer: asyncio.TimerHandle | None = None
