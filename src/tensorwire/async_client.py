"""The asynchronous client: the same calls for asyncio and uvloop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from functools import partial
from types import TracebackType
from typing import Self, TypeVar, Unpack, overload

from tensorwire._answer import Answer
from tensorwire._async_http import AsyncConnection
from tensorwire._base import BaseClient, Inputs, Outputs, RequestFields
from tensorwire._encode import encode
from tensorwire._exchange import Place
from tensorwire._messages import Metadata, MetadataRequest, Request, Response, Tensors
from tensorwire.errors import ConnectionLost, RemoteError

__all__ = ["AsyncClient"]

_R = TypeVar("_R")


class AsyncClient(BaseClient[AsyncConnection]):
    """``Client`` for asyncio and uvloop: the same options, methods and errors.

        async with AsyncClient("http://127.0.0.1:9000") as client:
            y = (await client.infer({"x": x}))["y"]

    Tasks of one event loop may share a client: each exchange under way has a connection of its own. A call
    that is cancelled closes its connection.
    """

    _connection = AsyncConnection
    _loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the idle connections, and each one in use after its answer. No call works from then on."""
        for connection in self._idle.close():
            await connection.wait_closed()

    async def infer(
        self,
        inputs: Inputs,
        outputs: Sequence[str] = (),
        *,
        out: Outputs | None = None,
        **fields: Unpack[RequestFields],
    ) -> Tensors:
        """Run the model and return its outputs, as ``Client.infer`` does: views of the received message, or ``out``."""
        request = Request(inputs, outputs, **fields)
        if out is None:
            answer = await self._call(request, self._results.response)
            return self._results.named(request, answer.outputs)
        into = self._into(request, out)
        answer = await self._call(request, partial(self._results.response, read=into.read), into.place)
        return into.tensors(answer.outputs)

    def infer_many(
        self,
        inputs: Iterable[Inputs] | AsyncIterable[Inputs],
        outputs: Sequence[str] = (),
        *,
        concurrency: int = 8,
        progress: bool = False,
        **fields: Unpack[RequestFields],
    ) -> AsyncIterator[Tensors]:
        """Run the model on each of ``inputs``, up to ``concurrency`` at once, and yield the results in their order.

        As ``Client.infer_many``, with tasks; ``inputs`` may be asynchronous itself.
        """
        from tensorwire._many import in_order_async

        self._idle.keep(concurrency)
        return in_order_async(lambda one: self.infer(one, outputs, **fields), inputs, concurrency, progress)

    async def metadata(self) -> Metadata:
        """Ask the server what its model is; the output names are kept to name later results."""
        return self._learn(await self.send(MetadataRequest()))

    @overload
    async def send(self, message: Request) -> Response: ...
    @overload
    async def send(self, message: MetadataRequest) -> Metadata: ...
    async def send(self, message: Request | MetadataRequest) -> Response | Metadata:
        """Send one message and return the answer as it came: its arrays are views of the received bytes."""
        if isinstance(message, MetadataRequest):
            return await self._call(message, self._results.metadata)
        return await self._call(message, self._results.response)

    def _take(self) -> AsyncConnection:
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise RuntimeError(f"{self!r} belongs to the event loop that it was first used in")
        return self._idle.take()

    async def _call(
        self, message: Request | MetadataRequest, read: Callable[[Answer], _R], place: Place | None = None
    ) -> _R:
        frame = encode(message)
        limit = self._calls.limit(message)
        attempt = 0
        while True:
            connection = self._take()
            try:
                return read(await connection.exchange(frame, limit, place))
            except (ConnectionLost, RemoteError) as error:
                pause = self._calls.pause(attempt, error, message, limit)
            finally:
                self._idle.give_back(connection)
            attempt += 1
            await asyncio.sleep(pause)
