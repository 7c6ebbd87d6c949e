"""One kept-alive connection of the generator, which never waits."""

from __future__ import annotations

from socket import socket
from ssl import SSLSocket, SSLWantReadError, SSLWantWriteError
from typing import Final

from tensorwire._address import Address
from tensorwire._answer import Answer, HeadBuffer
from tensorwire._decode import decode
from tensorwire._exchange import Exchange, Format
from tensorwire._frame import Frame
from tensorwire._messages import Response
from tensorwire.errors import ConnectionLost, DeadlineExceeded, DecodeError

__all__ = ["Failed", "Lane"]

_IOV_MAX: Final = 1024  # buffers in one sendmsg, Linux' limit
_LATER = (BlockingIOError, SSLWantReadError, SSLWantWriteError)


class Failed(Exception):
    """A request has failed: of what ``kind``, and in words. Except for an error that the server sent in proper
    form, the connection is closed.
    """

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Lane:
    """A connection with one request under way at most.

    ``due`` is when the request at hand was to be sent, ``sent_at`` when it was (time.perf_counter()); ``sock`` is None
    while there is no connection, ``exchange`` while no request is under way.
    """

    __slots__ = ("_address", "_buffer", "_format", "due", "exchange", "sent_at", "sock")

    def __init__(self, address: Address, format: Format) -> None:
        self._address = address
        self._format = format
        self._buffer = HeadBuffer()
        self.sock: socket | None = None
        self.exchange: Exchange | None = None
        self.due = self.sent_at = 0.0

    def connect(self, timeout: float) -> socket:
        """Open the connection, which may take ``timeout`` seconds. Raises Failed."""
        try:
            sock = self._address.connect(timeout)
        except (ConnectionLost, DeadlineExceeded) as error:
            raise Failed("cannot connect", str(error)) from None
        sock.setblocking(False)
        self.sock = sock
        return sock

    def close(self) -> None:
        """Close the connection; a request under way is forgotten."""
        self.exchange = None
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def start(self, frame: Frame, due: float, now: float) -> bool:
        """Begin to send a request; False when some of it could not be sent yet. Raises Failed."""
        self.due, self.sent_at = due, now
        self.exchange = Exchange(self._format, frame, self._buffer)
        return self.write()

    def write(self) -> bool:
        """Send as much as the socket takes; False when more is to be sent. Raises Failed."""
        sock, exchange = self.sock, self.exchange
        if sock is None or exchange is None:
            return True
        # A server that answers before it has read all of a request does not have to read the rest.
        while exchange.pending and not exchange.listening:
            try:
                if isinstance(sock, SSLSocket):
                    exchange.sent(sock.send(exchange.pending[0]))
                else:
                    exchange.sent(sock.sendmsg(exchange.pending[:_IOV_MAX]))
            except _LATER:
                return False
            except OSError as error:
                raise self._lost(error) from None
        return True

    def read(self) -> bool:
        """Receive what has come; True when the answer is complete. Raises Failed."""
        sock, exchange = self.sock, self.exchange
        if sock is None:
            return False
        if exchange is None:
            self.close()  # closed while idle; a new connection is made when it is needed
            return False
        try:
            while exchange.answer is None:
                count = sock.recv_into(exchange.target())
                if count:
                    exchange.received(count)
                else:
                    exchange.ended()
                if exchange.answer is None and not (isinstance(sock, SSLSocket) and sock.pending()):
                    return False
        except _LATER:
            return False
        except DecodeError as error:
            self.close()
            raise Failed("bad answer", str(error)) from None
        except OSError as error:
            raise self._lost(error) from None
        return True

    def take(self) -> int:
        """End the exchange; bytes of the answer's body. Raises Failed when the answer is an error."""
        exchange = self.exchange
        assert exchange is not None and exchange.answer is not None
        answer = exchange.answer
        self.exchange = None
        if not exchange.keep:
            self.close()
        error = _error(answer)
        if error is not None:
            raise error
        return answer.body.nbytes

    def _lost(self, error: OSError) -> Failed:
        progress = self.exchange.progress() if self.exchange is not None else ""
        self.close()
        return Failed("connection lost", f"{error.strerror or error}: {progress}")


def _error(answer: Answer) -> Failed | None:
    """What the server has refused, if it has."""
    try:
        errors = decode(answer.body, Response).errors
    except DecodeError as error:
        if answer.status == 200:
            return Failed("bad answer", str(error))
        return Failed(f"HTTP {answer.status}", bytes(memoryview(answer.body)[:200]).decode("utf-8", "replace"))
    if errors:
        return Failed(f"error {errors[0].code}", errors[0].message)
    return None if answer.status == 200 else Failed(f"HTTP {answer.status}", answer.reason)
