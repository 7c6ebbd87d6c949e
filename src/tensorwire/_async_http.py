"""One HTTP/1.1 exchange at a time over one kept-alive connection of an event loop."""

from __future__ import annotations

import asyncio
from socket import AF_UNIX, SOCK_STREAM, socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tensorwire._address import PROXY_PIECE, Address, received, reset_when_closed, tune
from tensorwire._answer import Answer
from tensorwire._exchange import Exchange, Place
from tensorwire._http import BaseConnection
from tensorwire._stream import Stream

if TYPE_CHECKING:
    from tensorwire._frame import Frame
    from tensorwire._limit import TimeLimit

__all__ = ["AsyncConnection"]

_FULL_BACKLOG_SECONDS: Final = 0.01  # between attempts at a UNIX socket whose backlog is full


class AsyncConnection(BaseConnection):
    """A connection to one address, opened when it is needed and kept while the server keeps it.

    For one task at a time, and for one event loop.
    """

    _stream: Stream | None = None
    _lost: asyncio.Future[None] | None = None

    def close(self) -> None:
        """Close the connection if there is one; the next exchange opens another."""
        stream, self._stream = self._stream, None
        if stream is not None:
            self._lost = stream.lost
            stream.close()

    def abort(self) -> None:
        sock = None if self._stream is None else self._stream.socket
        if sock is not None:
            reset_when_closed(sock)
        self.close()

    async def wait_closed(self) -> None:
        """Return when the loop is done with a connection that was closed."""
        if self._lost is not None:
            await self._lost

    async def exchange(self, frame: Frame, limit: TimeLimit, place: Place | None = None) -> Answer:
        """As ``Connection.exchange``. A task that is cancelled meanwhile leaves the connection closed."""
        if self._stream is not None and self._stream.closed:
            self.close()
        fresh = None if self._stream is None else monotonic()
        while True:
            try:
                stream = self._stream or await self._open(limit)
            except BaseException:
                self.close()
                raise
            exchange = Exchange(self.format, frame, stream.buffer, place)
            try:
                await stream.run(exchange, limit)
                assert exchange.answer is not None
                if not exchange.keep:
                    self.close()
                return exchange.answer
            except BaseException as error:
                self.failed(error, exchange, limit, fresh)
                fresh = None

    async def _open(self, limit: TimeLimit) -> Stream:
        timeout = self.connect_timeout
        try:
            timeout = limit.step(timeout)
            async with asyncio.timeout(timeout):
                self._stream = await self._connect()
        except TimeoutError as error:
            raise self.address.unreached(timeout) from error
        except OSError as error:
            raise self.address.unreachable(error) from error
        return self._stream

    async def _connect(self) -> Stream:
        loop = asyncio.get_running_loop()
        address = self.address
        options: dict[str, Any] = {}
        if address.tls:
            options = {"ssl": address.tls_context(), "server_hostname": address.host}
        if address.socket_path:
            sock = await _connect_unix(address.socket_path)
        else:
            sock = await _connect_tcp(*address.peer)
            if address.tls and address.proxy is not None:
                await _open_tunnel(sock, address)
        stream = Stream(loop, None if address.tls else sock)
        try:
            await loop.create_connection(lambda: stream, sock=sock, **options)
        except BaseException:
            sock.close()
            raise
        return stream


async def _connect_tcp(host: str, port: int) -> socket:
    """A socket connected to the first of a host's addresses that accepts."""
    loop = asyncio.get_running_loop()
    failure: OSError | None = None
    for family, kind, protocol, _, place in await loop.getaddrinfo(host, port, type=SOCK_STREAM):
        try:
            sock = await _connect(socket(family, kind, protocol), place)
        except OSError as error:
            failure = failure or error
            continue
        tune(sock)
        return sock
    raise failure or OSError(f"no address of {host} is known")


async def _open_tunnel(sock: socket, address: Address) -> None:
    """Have the proxy at the other end of a socket connect to the server."""
    loop, proxy = asyncio.get_running_loop(), address.proxy
    assert proxy is not None
    try:
        await loop.sock_sendall(sock, proxy.connect_request(address.host, address.port))
        answer = b""
        while not proxy.connected(answer):
            answer += received(await loop.sock_recv(sock, PROXY_PIECE))
    except BaseException:
        sock.close()
        raise


async def _connect(sock: socket, place: Any) -> socket:
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, place)
    except BaseException:
        sock.close()
        raise
    return sock


async def _connect_unix(path: str) -> socket:
    """A socket connected to a file's. When the server's backlog is full that fails at once, so it is tried again."""
    sock = socket(AF_UNIX, SOCK_STREAM)
    try:
        sock.setblocking(False)
        while True:
            try:
                sock.connect(path)
                tune(sock)
                return sock
            except BlockingIOError:
                await asyncio.sleep(_FULL_BACKLOG_SECONDS)
    except BaseException:
        sock.close()
        raise
