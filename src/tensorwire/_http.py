"""One blocking HTTP/1.1 exchange at a time over one kept-alive socket.

Payloads are sent from where they are, and received to where they stay.
"""

from __future__ import annotations

from socket import SO_RCVTIMEO, SOL_SOCKET, socket
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

from tensorwire._address import Address, connection_lost, reset_when_closed, timeval
from tensorwire._answer import Answer, HeadBuffer
from tensorwire._exchange import Exchange, Format, Place
from tensorwire._plain import run
from tensorwire._poll import readable
from tensorwire.errors import DeadlineExceeded, TensorwireError

if TYPE_CHECKING:
    from tensorwire._frame import Frame
    from tensorwire._limit import TimeLimit

__all__ = ["BaseConnection", "Connection"]

_STALE_SECONDS: Final = 1.0  # a reused connection that fails sooner than this was closed while it was idle


class BaseConnection:
    """What a connection is, blocking or not: an address, the format of its exchanges, and how they fail.

    ``head`` is the request head up to its Content-Length value, ``connect_timeout`` is in seconds (None: no
    limit), ``max_nbytes`` bounds the body of an answer.
    """

    def __init__(
        self, address: Address, head: bytes, *, connect_timeout: float | None, max_nbytes: int = 2**31 - 1
    ) -> None:
        self._address = address
        self._connect_timeout = connect_timeout
        self._format = Format(address.text, head, max_nbytes)

    def close(self) -> None:
        raise NotImplementedError

    def abort(self) -> None:
        """Break the connection if there is one, so that the server does not work for an answer that nobody reads."""
        raise NotImplementedError

    def _failed(self, error: BaseException, exchange: Exchange, limit: TimeLimit, fresh: float | None) -> None:
        """Break the connection, and raise what a failed exchange means, or return when it may be sent once more.

        ``fresh`` is when an exchange over a reused connection began (time.monotonic()), else None.
        """
        self.abort()  # Whatever is left of this answer must not be read as the next one.
        try:
            if isinstance(error, TensorwireError) or not isinstance(error, OSError):
                raise error
            if isinstance(error, (BlockingIOError, TimeoutError)):
                text = f"{self._address.text}: {limit.passed()}: {exchange.progress()}"
                raise DeadlineExceeded(text) from error
            if fresh is None or exchange.begun or monotonic() - fresh > _STALE_SECONDS:
                hint = self._address.unanswered() if fresh is None and not exchange.begun else ""
                text = f"{self._address.text}: {error.strerror or error}: {exchange.progress()}{hint}"
                raise connection_lost(text, unanswered=not exchange.begun) from error
        finally:
            del error  # Its traceback refers to this frame: what it holds must not wait for the cycle collector.


class Connection(BaseConnection):
    """A connection to one address, opened when it is needed and kept while the server keeps it.

    Not for two threads at once.
    """

    _sock: socket | None = None
    _stall: float | None = None
    _tls: _Tls | None = None

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._buffer = HeadBuffer()

    def close(self) -> None:
        """Close the socket if there is one; the next exchange opens another."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def abort(self) -> None:
        if self._sock is not None:
            reset_when_closed(self._sock)
        self.close()

    def exchange(self, frame: Frame, limit: TimeLimit, place: Place | None = None) -> Answer:
        """Send one request and receive its answer, whatever its status. The body is not a copy of anything.

        When a reused connection turns out to have been closed while it was idle, the request is sent once
        more over a new one. Raises DeadlineExceeded, ConnectionLost, DecodeError (not HTTP/1.1) and
        LimitError; the connection is closed then.
        """
        if self._sock is not None and readable(self._fd):
            self.close()  # Closed while idle; or bytes nobody asked for, which must not pass for an answer.
        fresh = None if self._sock is None else monotonic()
        while True:
            exchange = Exchange(self._format, frame, self._buffer, place)
            try:
                sock = self._sock or self._open(limit)
                if limit.stall != self._stall and self._tls is None:
                    self._set_stall(sock, limit.stall)
                answer = run(exchange, self._fd, limit, self._tls)
                if not exchange.keep:
                    self.close()
                return answer
            except BaseException as error:
                self._failed(error, exchange, limit, fresh)
                fresh = None

    def _open(self, limit: TimeLimit) -> socket:
        sock = self._address.connect(limit.step(self._connect_timeout))
        # OpenSSL would retry on SO_RCVTIMEO for ever, so TLS takes settimeout().
        self._tls = _Tls(sock) if self._address.tls else None
        if self._tls is None:
            self._set_stall(sock, limit.stall)
        self._fd = sock.fileno()
        self._sock = sock
        return sock

    def _set_stall(self, sock: socket, stall: float | None) -> None:
        # It spares the poll() that settimeout() puts before every recv().
        sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(stall))
        self._stall = stall


class _Tls:
    """What sends and receives over TLS, by Python's own socket."""

    def __init__(self, sock: socket) -> None:
        self._sock = sock

    def send(self, exchange: Exchange, limit: TimeLimit) -> None:
        for buffer in exchange.pending:
            self._sock.settimeout(limit.step(limit.stall))
            self._sock.sendall(buffer)
            exchange.sent(len(buffer))

    def receive(self, exchange: Exchange, limit: TimeLimit) -> None:
        self._sock.settimeout(limit.step(limit.stall))
        count = self._sock.recv_into(exchange.target())
        if count:
            exchange.received(count)
        else:
            exchange.ended()
