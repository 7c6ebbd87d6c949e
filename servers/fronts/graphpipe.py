"""GraphPipe on the fast path: a flatbuffer Request in, an InferResponse or MetadataResponse out."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from copy import copy
from dataclasses import replace

from tensorwire import DecodeError, Frame, Request, Response, encode
from tensorwire._budget import Budget
from tensorwire._fast_path import FastPath
from tensorwire._net import Connection
from tensorwire._pending import Exchange
from tensorwire.servers.fronts import access
from tensorwire.servers.fronts.backlog import LARGE, Backlog
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.target import read_target
from tensorwire.servers.fronts.tls_connection import TlsConnection
from tensorwire.servers.fronts.wire import (
    EMPTY_BODY,
    JOINED_NBYTES,
    error_frame,
    header_deadline,
    internal_error,
    is_wire,
    over_limit,
    result_frame,
)
from tensorwire.servers.model import RequestError
from tensorwire.servers.routing.target import ANY
from tensorwire.servers.service import Service

__all__ = ["WireHandler"]

_log = logging.getLogger("tensorwire.server")

_RESERVED = 16  # connections of administration beyond the limit
_MOST_REFUSALS = 128  # connections that may linger to read why they are turned away; more are dropped


class WireHandler:
    """What the server's connections call (``_net.Handler``), on the event loop's thread; never blocks.

    ``budget`` is what bodies take their memory from, ``backlog`` what counts the answers. ``hand_over`` takes
    connections whose request is not the wire's, ``handed_over`` says how many of those are open, ``closed`` is called
    when a connection has ended.
    """

    def __init__(
        self,
        service: Service,
        limits: Limits,
        budget: Budget,
        backlog: Backlog,
        hand_over: Callable[[asyncio.Transport, bytes], None],
        closed: Callable[[], None] = lambda: None,
        handed_over: Callable[[], int] = lambda: 0,
    ) -> None:
        self.budget = budget
        self.max_body = limits.largest_body
        self.max_head = limits.max_head
        self.head_timeout = limits.head_timeout
        self.body_timeout = limits.body_timeout
        self.min_rate = limits.min_rate
        self.idle_timeout = limits.idle_timeout
        self.connections: set[Connection] = set()
        self.agreeing: set[Connection] = set()
        self._turned_away: set[Connection] = set()
        self.backlog = backlog
        backlog.watch(self.connections)
        self.hand_over = hand_over
        self.claims = is_wire
        self._service = service
        self._fast = FastPath(service.direct, result_frame, JOINED_NBYTES)
        self._limits = limits
        self._closed = closed
        self._handed_over = handed_over

    def beside(self, hand_over: Callable[[asyncio.Transport, bytes], None]) -> WireHandler:
        """One for another listener, whose connections go elsewhere when they are handed over.

        Both know all connections. The other's may be a few more than the limit: who administers a server gets through
        when it is busy.
        """
        other = copy(self)
        other.hand_over = hand_over
        other._limits = replace(self._limits, max_connections=self._limits.max_connections + _RESERVED)
        return other

    def handle(self, exchange: Exchange) -> None:
        """Answer a complete request, now or when the service has its result."""
        names = True
        result: RequestError
        try:
            if self.backlog.nbytes > self.backlog.limit:
                self.backlog.admit()
            message = self._fast.take(exchange)
            if message is None:
                return
            target = read_target(exchange.path) if exchange.path != b"/" else None
            if type(message) is not Request:
                answer_with(exchange, 200, encode(self._service.metadata(target or ANY)))
                return
            exchange.model = message.model if target is None else target.model or message.model
            names = not message.outputs
            deadline_ms = header_deadline(exchange.deadline) if exchange.deadline is not None else 0
            answer = Answer(self, exchange, names)
            self._service.submit(
                message,
                answer,
                received=exchange.started,
                deadline_ms=deadline_ms,
                abandoned=answer.abandoned,
                target=target,
            )
            return
        except DecodeError as error:
            result = RequestError(400, str(error) if exchange.body_nbytes else EMPTY_BODY)
        except RequestError as error:
            result = error
        except Exception as error:
            result = internal_error(error, f"request from {exchange.peer}")
        answer_with(exchange, *result_frame(result, names))

    def refuse(self, exchange: Exchange, status: int, reason: str) -> Frame:
        """The answer to a request whose body is not read."""
        if status == 413:
            reason = over_limit(exchange.body_nbytes, self._limits)
        return error_frame(status, reason)

    def accepted(self) -> Connection | None:
        """A connection that will be ``connected`` once TLS is agreed on; None when too many are open to tell one so."""
        if self._served() >= self._limits.max_connections + _MOST_REFUSALS:
            return None
        connection = TlsConnection(self)
        self.agreeing.add(connection)
        return connection

    def agreed(self, connection: Connection) -> None:
        """The handshake of an accepted connection has ended; ``connected`` was called if it ended well."""
        self.agreeing.discard(connection)

    def _served(self) -> int:
        """Connections open, but for those that are turned away."""
        return len(self.connections) + len(self.agreeing) - len(self._turned_away) + self._handed_over()

    def connected(self, connection: Connection) -> None:
        self.agreeing.discard(connection)
        self.connections.add(connection)
        served = self._served()
        if served <= self._limits.max_connections:
            return
        if len(self._turned_away) < _MOST_REFUSALS:
            self._turned_away.add(connection)
            connection.turn_away(f"busy: {served - 1} connections are open (--max-connections)")
        else:
            connection.abort()

    def disconnected(self, connection: Connection) -> None:
        self.connections.discard(connection)
        self._turned_away.discard(connection)
        self._closed()

    def replied(self, exchange: Exchange, status: int, nbytes: int) -> None:
        """Count what waits to be read, and write a line of the access log."""
        if nbytes > LARGE:
            self.backlog.add(nbytes)
        if access.enabled():
            received = exchange.body_nbytes if exchange.body is not None else 0
            model = exchange.model or ""
            access.record(
                exchange.peer, exchange.method, exchange.path, model, status, received, nbytes, exchange.started
            )


class Answer:
    """Where the service puts the result of one request; only the first result counts."""

    __slots__ = ("_exchange", "_handler", "_names")

    def __init__(self, handler: WireHandler, exchange: Exchange, names: bool) -> None:
        self._handler = handler
        self._exchange: Exchange | None = exchange
        self._names = names

    def __call__(self, result: Response | RequestError) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if not exchange.abandoned:
            answer_with(exchange, *result_frame(result, self._names))
        else:
            self._handler.replied(exchange, access.ABANDONED, 0)

    def abandoned(self) -> bool:
        """True once the client has gone away; for any thread. Raises RequestError 503 while too many answers wait: what
        has not been run yet would make one more.
        """
        exchange = self._exchange
        if exchange is None or not exchange.abandoned:
            self._handler.backlog.check()
            return False
        return True


def answer_with(exchange: Exchange, status: int, frame: Frame) -> None:
    """Reply; what goes wrong then is logged, since there is nobody left to tell."""
    try:
        exchange.reply(status, frame)
    except Exception:
        _log.exception("reply to %s failed", exchange.peer)
