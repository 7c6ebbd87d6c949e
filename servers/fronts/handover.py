"""From the fast path to uvicorn: a connection whose request is not the wire's changes its protocol."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from email.utils import formatdate
from functools import partial
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser
from starlette.types import ASGIApp, Scope
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from tensorwire import __version__
from tensorwire._budget import Budget
from tensorwire.servers.fronts.arrived import Arrived, counted
from tensorwire.servers.fronts.backlog import Backlog
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.outgoing import Outgoing, in_pieces

__all__ = ["HandOver"]

_OF_BODIES = (b"content-length", b"transfer-encoding")
_MOST_AT_ONCE = 1000  # requests of a connection; the few bytes of one become some kilobytes


class HandOver:
    """Runs ``app`` on the connections given to it. uvicorn's own server is not used: only its HTTP protocol.

    What has come of their requests' bodies counts in ``budget``, their answers in ``backlog``. ``closed`` is called
    when one of these connections has ended.
    """

    def __init__(
        self,
        app: ASGIApp,
        limits: Limits,
        budget: Budget,
        backlog: Backlog,
        closed: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = _config(app, limits)
        self._state = ServerState()
        self._limits = limits
        self._budget = budget
        self._backlog = backlog
        backlog.watch(cast("set[PageProtocol]", self._state.connections))
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
        protocol = PageProtocol(config, self._state, self._limits, self._budget, self._closed)
        transport.set_protocol(protocol)
        protocol.connection_made(cast(asyncio.Transport, Outgoing(transport, self._limits, self._backlog)))
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
        counted(in_pieces(app)),
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
    """uvicorn's protocol with limits for heads, deaf to offers of another protocol, and in order to the last answer."""

    transport: Outgoing  # type: ignore[assignment]

    def __init__(
        self, config: Config, state: ServerState, limits: Limits, budget: Budget, closed: Callable[[], None]
    ) -> None:
        super().__init__(config, state, app_state={})
        self._budget = budget
        self._head_timeout = limits.head_timeout
        self._max_head = limits.max_head
        self._head_nbytes = 0  # of the fields of the head, or of the trailer, at hand
        self._unparsed = 0  # bytes in which the parser has found neither a head's end, nor of a body
        self._got_on = False
        self._head_began = self.loop.time()
        self._closed = closed
        self._at_head = True
        self._ending = False  # nothing more of what comes is read
        self._cycles: deque[RequestResponseCycle] = deque()  # in order; the first without an answer is in flight

    @property
    def unread(self) -> int:
        """Bytes of answers that the system does not take, since the client has not read what came before them."""
        return self.transport.unread

    def on_message_begin(self) -> None:
        self._head_nbytes = 0
        super().on_message_begin()
        self._arrived = Arrived(self._budget)
        self._arrived.begin(cast(Scope, self.scope))

    def on_url(self, url: bytes) -> None:
        self._count_head(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        self._count_head(len(name) + len(value) + len(":\r\n"))
        # uvicorn would add a trailer's fields to those by which the request is being answered.
        if self._at_head:
            super().on_header(name, value)

    def _count_head(self, nbytes: int) -> None:
        self._head_nbytes += nbytes
        if self._head_nbytes > self._max_head:
            # To uvicorn, which called through the parser, a head that it cannot read: answered with 400, and closed.
            raise ValueError("the request's head is too long")

    def on_headers_complete(self) -> None:
        self._got_on = True
        if self.parser.should_upgrade():
            if self.parser.get_method() == b"CONNECT":
                raise ValueError("this is no proxy")
            return  # comes again, without the offer
        if len(self._unanswered()) == _MOST_AT_ONCE:
            raise ValueError("too many requests at once")
        # OPTIONS * asks about the server as a whole; uvicorn takes paths only.
        if self.url == b"*":
            self.url = b"/"
        super().on_headers_complete()
        self._at_head = False
        self._head_nbytes = 0
        self._cycles.append(self.cycle)
        if any(name in _OF_BODIES for name, _ in self.headers):
            self._read_when_asked()

    def on_body(self, body: bytes) -> None:
        self._got_on = True
        super().on_body(body)
        if not self.cycle.response_complete:
            self._arrived.add(len(body))
            if not self._arrived.covered:
                self._read_when_asked()

    def on_response_complete(self) -> None:
        self._unanswered()
        super().on_response_complete()
        if self._cycles and self._cycles[-1].more_body:
            self._read_when_asked()

    def _read_when_asked(self) -> None:
        """Read more of the body when the app asks for it: until then one read of the system's is all that has come."""
        if not self.transport.is_closing():
            self.flow.pause_reading()

    def on_message_complete(self) -> None:
        self._got_on = True
        if self.parser.should_upgrade():
            return
        self._at_head = True
        super().on_message_complete()

    def data_received(self, data: bytes) -> None:
        if self._ending or self.transport.is_closing():
            self.transport.discard(len(data))
            return
        # uvicorn's idle timer runs between an answer and the next request's first byte, and only then.
        if self.timeout_keep_alive_task is not None:
            self._head_began = self.loop.time()
        self._unset_keepalive_if_required()
        self._got_on = False
        try:
            self._feed(data)
        except HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
            return
        # A field that does not end is in the parser's memory, of which it tells nothing.
        self._unparsed = 0 if self._got_on else self._unparsed + len(data)
        if self._unparsed > self._max_head:
            self.send_400_response("Request head too long.")

    def _feed(self, data: bytes) -> None:
        """Parse. A head that offers another protocol is parsed once more, without the offer.

        A server may ignore the offer, but the parser takes all that follows the head for the other protocol's bytes.
        Java's HttpClient makes the offer by itself, and so does curl --http2.
        """
        rest = memoryview(data)
        while True:
            try:
                self.parser.feed_data(rest)
                return
            except HttpParserUpgrade as offer:
                head = self._head_without_offer()
                rest = rest[offer.args[0] :]
            self.parser = HttpRequestParser(self)
            with suppress(AttributeError):  # httptools before 0.6.3; as uvicorn does
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
            self.parser.feed_data(head)

    def _head_without_offer(self) -> bytes:
        """The head that was just parsed."""
        lines = [b"%b %b HTTP/%b" % (self.parser.get_method(), self.url, self.parser.get_http_version().encode())]
        lines += [b"%b: %b" % field for field in self.headers if field[0] != b"upgrade"]
        return b"\r\n".join([*lines, b"", b""])

    def send_400_response(self, msg: str) -> None:
        """Refuse what comes from here on. Requests before it get their answers first, and the last."""
        if self._end():
            return
        if not self._at_head:  # the body's own framing is broken
            started = self.cycle.response_started
            _leave(self.cycle)
            if started:
                self.transport.close()
                return
        super().send_400_response(msg)

    def eof_received(self) -> bool:  # type: ignore[override]
        # A client may close its sending side and still wait for answers. TLS knows no such thing.
        return not self.transport.is_closing() and self._end() and self.scheme == "http"

    def shutdown(self) -> None:
        cycles = self._unanswered()
        if len(cycles) == 1 and cycles[0].more_body:
            cycles[0].keep_alive = False  # its body is under way
        elif not self._end():
            self.transport.close()

    def _end(self) -> bool:
        """Read no further, and close after the answers to requests that have come whole; False if there are none."""
        self._ending = True
        cycles = self._unanswered()
        if len(cycles) > 1 and cycles[-1].more_body:
            _forget(cycles.pop())
            self.pipeline.popleft()  # uvicorn's queue, the newest first
        if not cycles or cycles[-1].more_body:
            return False
        self.cycle = cycles[-1]
        self.cycle.keep_alive = False
        return True

    def _unanswered(self) -> deque[RequestResponseCycle]:
        while self._cycles and self._cycles[0].response_complete:
            _forget(self._cycles.popleft())
        return self._cycles

    def expire(self, now: float) -> None:
        between = self.cycle is None or self.cycle.response_complete
        at_head = between and self.timeout_keep_alive_task is None
        dawdles = at_head and now - self._head_began > self._head_timeout
        if self.transport.stalled(now) or dawdles:
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        for cycle in self._unanswered():  # uvicorn looks at the last one only
            _leave(cycle)
            _forget(cycle)
        self.pipeline.clear()
        super().connection_lost(exc)
        self._closed()


def _forget(cycle: RequestResponseCycle) -> None:
    """Free what has come of a body that nobody reads any more."""
    cycle.body = bytearray()
    arrived = Arrived.of(cast(Scope, cycle.scope))
    if arrived is not None:
        arrived.take(arrived.nbytes)


def _leave(cycle: RequestResponseCycle) -> None:
    """Tell the app, if it is still at it, that its client has gone."""
    cycle.disconnected = True
    cycle.message_event.set()
