"""A request's body received through ASGI, within the limits of its connection and of the whole server."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope

from tensorwire import Chunk
from tensorwire._budget import Budget
from tensorwire._memory import budgeted
from tensorwire._pace import Pace
from tensorwire.servers.fronts.arrived import Arrived
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.wire import busy, over_limit
from tensorwire.servers.model import RequestError

__all__ = ["BodyReader"]


class BodyReader:
    """Collects bodies into Chunks that count in ``budget``, one that is announced without a copy in between."""

    def __init__(self, limits: Limits, budget: Budget) -> None:
        self._limits = limits
        self._timeout = limits.body_timeout
        self._budget = budget

    async def read(self, scope: Scope, receive: Receive) -> Chunk | None:
        """The whole body; None when the client has left. Raises RequestError 413, 408 and 503."""
        announced = _announced(scope)
        self._check_size(announced)
        if announced:
            return await self._announced(announced, Arrived.of(scope), receive)
        pieces: list[bytes] = []
        taken = 0
        pace = Pace(self._timeout, self._limits.min_rate)
        try:
            while (piece := await self._next(receive)) is not None:
                self._check_pace(pace, taken)
                self._check_size(taken + len(piece[0]), so_far=True)
                # No waiting here: bodies that each hold a part of the budget could wait for each other.
                if not self._budget.take(len(piece[0])):
                    raise busy(self._budget)
                taken += len(piece[0])
                pieces.append(piece[0])
                if not piece[1]:
                    break
            else:
                return None
        finally:
            self._budget.give(taken)
        # Nothing else runs on this thread in between, and other threads only give back.
        chunk = budgeted(taken, self._budget)
        assert chunk is not None
        _fill(chunk, pieces)
        chunk.copied = taken
        return chunk

    async def _announced(self, nbytes: int, arrived: Arrived | None, receive: Receive) -> Chunk | None:
        chunk = await self._room(nbytes, arrived)
        view = memoryview(chunk)
        at = 0
        pace = Pace(self._timeout, self._limits.min_rate)
        while (piece := await self._next(receive)) is not None:
            self._check_pace(pace, at)
            view[at : at + len(piece[0])] = piece[0]
            at += len(piece[0])
            chunk.copied = at
            if not piece[1]:
                return chunk
        return None

    async def _next(self, receive: Receive) -> tuple[bytes, bool] | None:
        """Some more of the body and whether more will come; None when the client has left."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(loop.time() + self._timeout):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece: bytes = message.get("body", b"")
                    more: bool = message.get("more_body", False)
                    if piece or not more:
                        return piece, more
        except TimeoutError:
            raise RequestError(408, f"no more of the body within {self._timeout:g} s") from None

    def _reserve(self, nbytes: int, arrived: Arrived | None) -> Chunk | None:
        """A Chunk if the budget has room for it; what has come of the body is in memory, and counted, already."""
        if arrived is None:
            return budgeted(nbytes, self._budget)
        here = arrived.nbytes
        arrived.cover()
        chunk = budgeted(nbytes, self._budget)
        if chunk is None:
            arrived.uncover(here)
        return chunk

    async def _room(self, nbytes: int, arrived: Arrived | None) -> Chunk:
        """A Chunk as soon as the budget has room for it."""
        budget = self._budget
        if not budget.waiting:
            chunk = self._reserve(nbytes, arrived)
            if chunk is not None:
                return chunk
        room: asyncio.Future[Chunk | None] = asyncio.get_running_loop().create_future()

        def admitted() -> None:
            if not room.done():
                room.set_result(self._reserve(nbytes, arrived))

        # No more of it comes until it is asked for.
        if not budget.wait(max(nbytes - (arrived.nbytes if arrived is not None else 0), 0), admitted):
            raise busy(budget)
        try:
            async with asyncio.timeout(self._timeout):
                chunk = await room
        except TimeoutError:
            chunk = None
        finally:
            budget.leave(admitted)
        if chunk is None:
            raise busy(budget)
        return chunk

    def _check_pace(self, pace: Pace, taken: int) -> None:
        if pace.too_slow(asyncio.get_running_loop().time(), taken):
            rate = self._limits.min_rate
            raise RequestError(408, f"the body comes at less than {rate:,} bytes a second: {taken:,} have come")

    def _check_size(self, nbytes: int, *, so_far: bool = False) -> None:
        if nbytes > self._limits.largest_body:
            raise RequestError(413, over_limit(nbytes, self._limits, so_far=so_far))


def _announced(scope: Scope) -> int:
    """Content-Length, 0 when there is none; the HTTP parser has checked that it is a number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def _fill(chunk: Chunk, pieces: list[bytes]) -> None:
    view = memoryview(chunk)
    at = chunk.nbytes
    # From the last to the first, so that each piece is freed as soon as it is copied.
    while pieces:
        piece = pieces.pop()
        view[at - len(piece) : at] = piece
        at -= len(piece)
