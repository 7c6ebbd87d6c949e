"""A flatbuffer received through ASGI: chunked, or on a connection that has been handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from time import perf_counter

from starlette.types import Message, Receive, Scope, Send

from tensorwire import Chunk, Frame, Request, encode
from tensorwire._budget import Budget
from tensorwire._copies import count_sent
from tensorwire.servers.fronts.backlog import Backlog
from tensorwire.servers.fronts.body import BodyReader
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.target import read_target
from tensorwire.servers.fronts.wire import (
    error_frame,
    header_deadline,
    http_status,
    internal_error,
    read_message,
    result_frame,
)
from tensorwire.servers.model import RequestError
from tensorwire.servers.routing.target import ANY
from tensorwire.servers.service import Service

__all__ = ["Upload"]


class Upload:
    """The ASGI endpoint: collects a body within the limits and answers as the fast path does."""

    def __init__(self, service: Service, limits: Limits, budget: Budget, backlog: Backlog) -> None:
        self._service = service
        self._backlog = backlog
        self._body = BodyReader(limits, budget)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        try:
            body = await self._body.read(scope, receive)
        except RequestError as error:
            # The rest of the body is still on its way: the connection cannot be used again.
            await _respond(send, http_status(error.code), error_frame(error.code, error.message), close=True)
            return
        if body is None:
            return
        gone = asyncio.ensure_future(_disconnect(receive))

        def abandoned() -> bool:
            """For any thread; what has not been run yet would make one more answer."""
            if not gone.done():
                self._backlog.check()
                return False
            return True

        try:
            status, frame = await self._answer(scope, body, started, abandoned)
        finally:
            gone.cancel()
        # Counted until the connection has all of it: that is asked to wait for its client in between.
        left = frame.nbytes
        self._backlog.hold(left)

        async def send_on(message: Message) -> None:
            nonlocal left
            await send(message)
            sent = len(message.get("body", b""))
            left -= sent
            self._backlog.release(sent)

        try:
            await _respond(send_on, status, frame)
        finally:
            self._backlog.release(left)

    async def _answer(
        self, scope: Scope, body: Chunk, started: float, abandoned: Callable[[], bool]
    ) -> tuple[int, Frame]:
        names = True
        try:
            target = read_target(scope["raw_path"] + b"?" + scope["query_string"])
            message = read_message(body)
            self._backlog.admit()
            if not isinstance(message, Request):
                return 200, encode(self._service.metadata(target or ANY))
            scope["tensorwire.model"] = message.model if target is None else target.model or message.model
            names = not message.outputs
            deadline_ms = header_deadline(_field(scope, b"x-deadline-ms"))
            result = await self._service.infer(
                message, received=started, deadline_ms=deadline_ms, abandoned=abandoned, target=target
            )
            return result_frame(result, names)
        except RequestError as error:
            return result_frame(error, names)
        except Exception as error:
            return result_frame(internal_error(error, "request"), names)


async def _disconnect(receive: Receive) -> None:
    """Return when the client has left; the request's body has been read."""
    while (await receive())["type"] != "http.disconnect":
        pass


def _field(scope: Scope, wanted: bytes) -> bytes | None:
    found: bytes | None = None
    for name, value in scope["headers"]:
        if name == wanted:
            found = value
    return found


async def _respond(send: Send, status: int, frame: Frame, *, close: bool = False) -> None:
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(frame.nbytes).encode()),
    ]
    if status == 503:
        headers.append((b"retry-after", b"1"))
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    count_sent(frame.nbytes)  # uvicorn makes one bytes object of each buffer
    for buffer in frame.buffers:
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
