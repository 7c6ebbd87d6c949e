"""A flatbuffer received through ASGI: chunked, or on a connection that has been handed over."""

from __future__ import annotations

import asyncio

from starlette.types import Receive, Scope, Send

from tensorwire import Chunk, Frame, Request, encode
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.wire import (
    error_frame,
    http_status,
    internal_error,
    over_limit,
    read_message,
    result_frame,
)
from tensorwire.servers.model import RequestError
from tensorwire.servers.service import Service

__all__ = ["Upload"]


class Upload:
    """The ASGI endpoint: collects a body within the limits and answers as the fast path does."""

    def __init__(self, service: Service, limits: Limits) -> None:
        self._service = service
        self._max_body = limits.max_body
        self._timeout = limits.body_timeout

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            body = await self._collect(scope, receive)
        except RequestError as error:
            # The rest of the body is still on its way: the connection cannot be used again.
            await _respond(send, http_status(error.code), error_frame(error.code, error.message), close=True)
            return
        if body is not None:
            await _respond(send, *await self._answer(scope, body))

    async def _answer(self, scope: Scope, body: Chunk) -> tuple[int, Frame]:
        names = True
        try:
            message = read_message(body)
            if not isinstance(message, Request):
                return 200, encode(self._service.metadata())
            scope["tensorwire.model"] = message.model
            names = not message.outputs
            return result_frame(await self._service.infer(message), names)
        except RequestError as error:
            return result_frame(error, names)
        except Exception as error:
            return result_frame(internal_error(error, "request"), names)

    async def _collect(self, scope: Scope, receive: Receive) -> Chunk | None:
        """The whole body; None when the client has left. Raises RequestError 413 and 408."""
        announced = _announced(scope)
        if announced > self._max_body:
            raise RequestError(413, over_limit(announced, self._max_body))
        loop = asyncio.get_running_loop()
        pieces: list[bytes] = []
        nbytes = 0
        try:
            async with asyncio.timeout(self._timeout) as clock:
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    piece: bytes = message.get("body", b"")
                    nbytes += len(piece)
                    if nbytes > self._max_body:
                        raise RequestError(413, over_limit(nbytes, self._max_body))
                    pieces.append(piece)
                    if not message.get("more_body", False):
                        return _join(pieces, nbytes)
                    if piece:
                        clock.reschedule(loop.time() + self._timeout)
        except TimeoutError:
            raise RequestError(408, f"no more of the body within {self._timeout:g} s") from None


def _announced(scope: Scope) -> int:
    """Content-Length, 0 when there is none; the HTTP parser has checked that it is a number."""
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value)
    return 0


def _join(pieces: list[bytes], nbytes: int) -> Chunk:
    chunk = Chunk(nbytes)
    view = memoryview(chunk)
    at = nbytes
    # From the last to the first, so that each piece is freed as soon as it is copied.
    while pieces:
        piece = pieces.pop()
        view[at - len(piece) : at] = piece
        at -= len(piece)
    return chunk


async def _respond(send: Send, status: int, frame: Frame, *, close: bool = False) -> None:
    headers = [
        (b"content-type", b"application/octet-stream"),
        (b"content-length", str(frame.nbytes).encode()),
    ]
    if close:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    for buffer in frame.buffers:
        await send({"type": "http.response.body", "body": buffer, "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})
