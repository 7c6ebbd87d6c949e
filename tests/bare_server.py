"""A server made of one bare connection class, and a client that speaks in raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import numpy as np
import uvloop

import tensorwire as tw
from tensorwire._budget import Budget
from tensorwire._net import Connection
from tensorwire._pending import Exchange

__all__ = ["LOOPS", "REQUEST", "Echo", "Peer", "Scenario", "peers", "post"]

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
REQUEST = bytes(tw.encode(tw.Request({"x": np.arange(1000, dtype=np.float32)})))


class Echo:
    """A handler that answers a request with its own inputs, and keeps what it saw."""

    max_body = 1 << 20
    max_head = 2048
    head_timeout = 5.0
    body_timeout = 5.0
    min_rate = 1000
    idle_timeout = 60.0

    def __init__(self) -> None:
        self.open: set[Connection] = set()
        self.exchanges: list[Exchange] = []
        self.waiting: list[Exchange] = []
        self.handed: list[bytes] = []
        self.log: list[int] = []
        self.hold = False
        self.budget = Budget(1 << 30)

    def claims(self, method: bytes, path: bytes, content_type: bytes) -> bool:
        return method == b"POST" and path != b"/page"

    def handle(self, exchange: Exchange) -> None:
        self.exchanges.append(exchange)
        if self.hold:
            self.waiting.append(exchange)
        else:
            self.answer(exchange)

    def answer(self, exchange: Exchange) -> None:
        assert exchange.body is not None
        try:
            request = tw.decode(exchange.body, tw.Request)
        except tw.DecodeError as error:
            exchange.reply(400, tw.encode(tw.Response(errors=[tw.Status(400, str(error))])))
            return
        exchange.reply(200, tw.encode(tw.Response(request.inputs)))

    def refuse(self, exchange: Exchange, status: int, reason: str) -> tw.Frame:
        return tw.encode(tw.Response(errors=[tw.Status(status, reason or "refused")]))

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        self.handed.append(data)
        transport.write(b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n")
        transport.close()

    def connected(self, connection: Connection) -> None:
        self.open.add(connection)

    def disconnected(self, connection: Connection) -> None:
        self.open.discard(connection)

    def replied(self, exchange: Exchange, status: int, nbytes: int) -> None:
        self.log.append(status)


class Peer:
    """A client that speaks in raw bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handler: Echo) -> None:
        self.reader, self.writer, self.handler = reader, writer, handler

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[bytes, bytes], bytes]:
        head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), 60)
        first, *lines = head[:-4].split(b"\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in lines)
        body = await self.reader.readexactly(int(fields.get(b"content-length", 0)))
        return int(first.split()[1]), fields, body

    async def error(self) -> tuple[int, str]:
        status, _, body = await self.answer()
        return status, tw.decode(body, tw.Response).errors[0].message

    async def ended(self) -> bool:
        return await asyncio.wait_for(self.reader.read(), 60) == b""

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await asyncio.sleep(0.002)


Scenario = Callable[[Peer], Coroutine[Any, Any, None]]
"""What a peer does."""


def post(body: bytes = REQUEST, *fields: bytes, version: bytes = b"1.1", path: bytes = b"/") -> bytes:
    lines = [b"POST %b HTTP/%b" % (path, version), b"host: x", b"content-length: %d" % len(body), *fields]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


@contextlib.asynccontextmanager
async def peers(handler: Echo) -> AsyncIterator[Callable[[], Coroutine[Any, Any, Peer]]]:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(handler), "127.0.0.1", 0)
    made: list[Peer] = []

    async def connect() -> Peer:
        made.append(Peer(*await asyncio.open_connection(*server.sockets[0].getsockname()), handler))
        return made[-1]

    try:
        yield connect
    finally:
        server.close()
        for peer in made:
            peer.writer.close()
            with contextlib.suppress(ConnectionError):
                await peer.writer.wait_closed()
        async with asyncio.timeout(60):
            while handler.open:
                await asyncio.sleep(0.002)
