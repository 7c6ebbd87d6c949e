"""From the fast path to uvicorn: a connection whose request is not the wire's changes its protocol."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Callable
from email.utils import formatdate
from functools import partial
from typing import cast

from starlette.types import ASGIApp
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from tensorwire import __version__
from tensorwire._pace import Pace
from tensorwire.servers.fronts.limits import Limits

__all__ = ["HandOver"]

_UPGRADE = re.compile(rb"\r\nupgrade[ \t]*:[^\r\n]*(?=\r\n)", re.IGNORECASE)


class HandOver:
    """Runs ``app`` on the connections given to it. uvicorn's own server is not used: only its HTTP protocol.

    ``closed`` is called when one of these connections has ended.
    """

    def __init__(self, app: ASGIApp, limits: Limits, closed: Callable[[], None] = lambda: None) -> None:
        self._config = _config(app, limits)
        self._state = ServerState()
        self._limits = limits
        self._closed = closed
        self._draining = False

    def __len__(self) -> int:
        """Connections that are open."""
        return len(self._state.connections)

    def hand_over(self, transport: asyncio.Transport, data: bytes) -> None:
        """Serve a connection from now on; ``data`` is what has been read from it and not been answered."""
        self._begin(self._config, transport, data)

    def door(self, app: ASGIApp) -> Callable[[asyncio.Transport, bytes], None]:
        """A ``hand_over`` to another app."""
        return partial(self._begin, _config(app, self._limits))

    def _begin(self, config: Config, transport: asyncio.Transport, data: bytes) -> None:
        protocol = PageProtocol(config, self._state, self._limits, self._closed)
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        protocol.data_received(data)
        if self._draining:
            protocol.shutdown()

    def expire(self, now: float) -> None:
        """Call every second with loop.time(): sets the Date header, closes connections that dawdle."""
        self._state.default_headers = [
            (b"date", formatdate(usegmt=True).encode()),
            (b"server", b"tensorwire/" + __version__.encode()),
        ]
        for protocol in list(self._state.connections):
            cast(PageProtocol, protocol).expire(now)

    def drain(self) -> None:
        """Close each connection: at once when it is idle, else after the answer in flight."""
        self._draining = True
        for protocol in list(self._state.connections):
            protocol.shutdown()

    def abort(self) -> None:
        """Close every connection now, answers in flight included."""
        for protocol in list(self._state.connections):
            protocol.transport.abort()


def _config(app: ASGIApp, limits: Limits) -> Config:
    config = Config(
        app,
        http=HttpToolsProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        timeout_keep_alive=math.ceil(limits.idle_timeout),
    )
    config.load()
    return config


class PageProtocol(HttpToolsProtocol):
    """uvicorn's protocol, with limits for heads, and deaf to offers of another protocol."""

    def __init__(self, config: Config, state: ServerState, limits: Limits, closed: Callable[[], None]) -> None:
        super().__init__(config, state, app_state={})
        self._head_timeout = limits.head_timeout
        self._max_head = limits.max_head
        self._head_nbytes = self._head_received = 0
        self._head_began = self.loop.time()
        self._closed = closed
        self._at_head = True
        self._pace = Pace(limits.body_timeout, limits.min_rate)

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        # OPTIONS * asks about the server as a whole; uvicorn takes paths only.
        super().on_url(b"/" if url == b"*" else url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value))
        super().on_header(name, value)

    def _count_head(self, nbytes: int) -> None:
        self._head_nbytes += nbytes
        if self._head_nbytes > self._max_head:
            # To uvicorn, which called through the parser, a head that it cannot read: answered with 400, and closed.
            raise ValueError("the request's head is too long")

    def on_headers_complete(self) -> None:
        self._at_head = False
        self._head_nbytes = self._head_received = 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self._at_head = True
        self._pace.begin()
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        # uvicorn's idle timer runs between an answer and the next request's first byte, and only then.
        if self.timeout_keep_alive_task is not None:
            self._head_began = self.loop.time()
        # Never in a body: it would get shorter than it was announced.
        if self._at_head:
            data = without_upgrade(data)
        at_head, cycle = self._at_head, self.cycle
        super().data_received(data)
        # A field that does not end is in the parser's memory, of which it tells nothing.
        if at_head and self._at_head and self.cycle is cycle:
            self._head_received += len(data)
            if self._head_received > self._max_head and not self.transport.is_closing():
                self.send_400_response("Request head too long.")

    def expire(self, now: float) -> None:
        between = self.cycle is None or self.cycle.response_complete
        at_head = between and self.timeout_keep_alive_task is None
        dawdles = at_head and now - self._head_began > self._head_timeout
        if dawdles or self._pace.left_too_long(now, self.transport.get_write_buffer_size()):
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._closed()


def without_upgrade(data: bytes) -> bytes:
    """A request without its offer to change to HTTP/2 or WebSocket (``data`` itself if there is none).

    A server may ignore the offer, but the HTTP parser takes the body after it for the other protocol's bytes.
    Java's HttpClient makes the offer by itself, and so does curl --http2.
    """
    end = data.find(b"\r\n\r\n")
    if end < 0 or not _UPGRADE.search(data, 0, end + 2):
        return data
    return _UPGRADE.sub(b"", data[: end + 2]) + data[end + 2 :]
