"""One blocking HTTP/1.1 exchange at a time over one kept-alive socket.

Heads are parsed by httptools. A body with a Content-Length is received straight into a Chunk of its size;
chunked bodies and those that end with the connection are collected first. Payloads are sent from where they
are.
"""

from __future__ import annotations

from select import POLLIN, POLLOUT, poll
from socket import MSG_DONTWAIT, MSG_WAITALL, SO_RCVTIMEO, SOL_SOCKET, socket
from time import monotonic
from typing import TYPE_CHECKING, Final, NamedTuple

from tensorwire._address import Address, timeval
from tensorwire._memory import Chunk
from tensorwire.errors import ConnectionLost, DeadlineExceeded, DecodeError, LimitError

if TYPE_CHECKING:
    from httptools import HttpResponseParser

    from tensorwire._frame import Frame

_HEAD_LIMIT: Final = 16 * 1024  # bytes of an answer's head; what llhttp-based servers allow for a request's
_SCRATCH: Final = 256 * 1024  # bytes a read of a body of unknown size
_IOV_MAX: Final = 1024  # Linux' and macOS' limit of buffers in one sendmsg
_MAX_INTERIM: Final = 32  # 1xx responses before an answer: real servers send one or two
_STALE_SECONDS: Final = 1.0  # a reused connection that fails sooner than this was closed while it was idle
_END_OF_HEAD: Final = b"\r\n\r\n"


class Answer(NamedTuple):
    """A complete response: HTTP status and reason, and the body (the receiver is its sole owner)."""

    status: int
    reason: str
    body: Chunk


class _Head:
    """What the parser tells of one response; also collects the body when its size is not known beforehand."""

    __slots__ = ("chunked", "closes", "coded", "complete", "length", "nbytes", "pieces", "reason", "surplus")

    def __init__(self) -> None:
        self.reason = b""
        self.length: int | None = None
        self.chunked = False
        self.closes = False
        self.coded = b""
        self.complete = False
        self.surplus = False
        self.pieces: list[bytes] = []
        self.nbytes = 0

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name == b"transfer-encoding":
            self.chunked = value.rpartition(b",")[2].strip().lower() == b"chunked"
        elif name == b"connection":
            self.closes = b"close" in value.lower()
        elif name == b"content-encoding" and value.lower() != b"identity":
            self.coded = value

    def on_body(self, piece: bytes) -> None:
        if not self.complete:
            self.pieces.append(piece)
            self.nbytes += len(piece)

    def on_message_complete(self) -> None:
        self.complete = True


class Connection:
    """A connection to one address, opened when it is needed and kept while the server keeps it.

    Not for two threads at once. ``head`` is the request head up to its Content-Length value,
    ``connect_timeout`` is in seconds (None: no limit), ``max_nbytes`` bounds the body of an answer.
    """

    def __init__(
        self, address: Address, head: bytes, *, connect_timeout: float | None, max_nbytes: int = 2**31 - 1
    ) -> None:
        # Imported here: a codec user needs no HTTP.
        from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

        self._new_parser = HttpResponseParser
        self._parser_errors = (HttpParserError, HttpParserUpgrade)
        self._address = address
        self._head = head
        self._connect_timeout = connect_timeout
        self._max_nbytes = max_nbytes
        self._sock: socket | None = None
        self._stall: float | None = None
        self._buffer = bytearray(_HEAD_LIMIT)
        self._view = memoryview(self._buffer)
        # Received bytes that are not yet consumed lie in _view[_start:_filled].
        self._start = self._filled = 0
        # Progress of the exchange under way, for the texts of errors. _expected: bytes of the body, -1
        # while its size is not known, None before the head is complete.
        self._total = self._sent = self._received = self._got = 0
        self._expected: int | None = None

    def close(self) -> None:
        """Close the socket if there is one; the next exchange opens another."""
        sock, self._sock = self._sock, None
        if sock is not None:
            sock.close()

    def exchange(self, frame: Frame, stall: float | None) -> Answer:
        """Send one request and receive its answer, whatever its status. The body is not a copy of anything.

        ``stall`` is how many seconds may pass without progress (None: no limit). When a reused connection
        turns out to have been closed while it was idle, the request is sent once more over a new one.
        Raises DeadlineExceeded, ConnectionLost, DecodeError (not HTTP/1.1) and LimitError; the connection
        is closed then.
        """
        if self._sock is not None and self._readable.poll(0):
            self.close()  # Closed while idle; or bytes nobody asked for, which must not pass for an answer.
        reused = self._sock is not None
        began = monotonic()
        while True:
            sock = self._sock or self._open()
            try:
                if stall != self._stall:
                    self._set_stall(sock, stall)
                return self._exchange(sock, frame)
            except OSError as error:
                self.close()
                if isinstance(error, (BlockingIOError, TimeoutError)):
                    text = f"{self._address.text}: no progress for {stall} s: {self._progress()}"
                    raise DeadlineExceeded(text) from error
                if not reused or self._received or monotonic() - began > _STALE_SECONDS:
                    text = f"{self._address.text}: {error.strerror or error}: {self._progress()}"
                    raise ConnectionLost(text) from error
                reused = False
            except BaseException:
                self.close()  # Whatever is left of this answer must not be read as the next one.
                raise

    def _open(self) -> socket:
        sock = self._address.connect(self._connect_timeout)
        self._readable = poll()
        self._readable.register(sock, POLLIN)
        self._either = poll()
        self._either.register(sock, POLLIN | POLLOUT)
        self._set_stall(sock, self._stall)
        self._sock = sock
        return sock

    def _set_stall(self, sock: socket, stall: float | None) -> None:
        # SO_RCVTIMEO spares the poll() that settimeout() puts before every recv(). OpenSSL would retry on
        # it for ever, so TLS takes settimeout().
        if self._address.tls:
            sock.settimeout(stall)
        else:
            sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(stall))
        self._stall = stall

    def _exchange(self, sock: socket, frame: Frame) -> Answer:
        head = b"%b%d\r\n\r\n" % (self._head, frame.nbytes)
        pending: list[bytes | memoryview] = [head, *frame.buffers]
        self._total = len(head) + frame.nbytes
        self._sent = self._received = self._got = self._start = self._filled = 0
        self._expected = None
        failure: OSError | None = None
        for _ in range(_MAX_INTERIM):
            # Bytes left over from an interim response begin the answer: to send on could block for ever.
            if pending and failure is None and self._start == self._filled:
                try:
                    pending = self._send(sock, pending)
                except OSError as error:
                    if isinstance(error, TimeoutError) and not self._readable.poll(0):
                        raise
                    failure = error  # The server may have answered before it stopped reading.
            try:
                answer, parser, status = self._receive_head(sock)
            except OSError:
                if failure is not None:
                    raise failure from None
                raise
            if status >= 200:
                break
        else:
            raise DecodeError(f"{self._address.text}: {_MAX_INTERIM} interim responses and no answer")
        keep = parser.should_keep_alive()
        if answer.complete:  # A message that ended with its head: the parser has forgotten it by now.
            keep = not answer.closes and parser.get_http_version() == "1.1"
        body = self._receive_body(sock, answer, parser)
        if not keep or pending or failure is not None or answer.surplus:
            self.close()
        return Answer(status, answer.reason.decode("latin-1"), body)

    def _send(self, sock: socket, pending: list[bytes | memoryview]) -> list[bytes | memoryview]:
        """Send until nothing is pending or the server begins to answer; returns what is still pending."""
        if self._address.tls:
            for buffer in pending:
                sock.sendall(buffer)
                self._sent += len(buffer)
            return []
        while True:
            try:
                count = sock.sendmsg(pending[:_IOV_MAX], (), MSG_DONTWAIT)
            except BlockingIOError:
                count = 0
            self._sent += count
            if self._sent == self._total:
                return []
            pending = _after(pending, count)
            events = self._either.poll(None if self._stall is None else max(1, round(self._stall * 1000)))
            if not events:
                raise TimeoutError
            if events[0][1] & POLLIN:
                return pending

    def _receive_head(self, sock: socket) -> tuple[_Head, HttpResponseParser, int]:
        """Receive and parse one head; what came after it stays in the buffer."""
        buffer, view = self._buffer, self._view
        filled = self._filled - self._start
        if self._start:
            view[:filled] = bytes(view[self._start : self._filled])
        self._start, self._filled = 0, filled
        searched = 0
        while (end := buffer.find(_END_OF_HEAD, searched, filled)) < 0:
            if filled and buffer[: min(filled, 5)] != b"HTTP/"[:filled]:
                start = bytes(view[: min(filled, 32)])
                raise DecodeError(f"{self._address.text}: not an HTTP answer: {start!r}")
            if filled == _HEAD_LIMIT:
                raise LimitError(f"{self._address.text}: the answer's head is over {_HEAD_LIMIT} bytes")
            searched = max(0, filled - len(_END_OF_HEAD) + 1)
            count = sock.recv_into(view[filled:])
            if not count:
                raise ConnectionError("closed by the server")
            filled += count
            self._received += count
            self._filled = filled
        self._start = end + len(_END_OF_HEAD)
        head = _Head()
        parser = self._new_parser(head)
        try:
            parser.feed_data(view[: self._start])
        except self._parser_errors as error:
            raise DecodeError(f"{self._address.text}: not an HTTP/1.1 answer: {error}") from error
        return head, parser, parser.get_status_code()

    def _receive_body(self, sock: socket, head: _Head, parser: HttpResponseParser) -> Chunk:
        if head.coded:
            text = f"{self._address.text}: the answer's content-encoding is {head.coded!r}; none was offered"
            raise DecodeError(text)
        if head.length is None and not head.complete:
            return self._receive_stream(sock, head, parser)
        length = self._expected = 0 if head.complete else head.length or 0
        self._check_size(length)
        chunk = Chunk(length)
        view = memoryview(chunk)
        got = min(length, self._filled - self._start)
        view[:got] = self._view[self._start : self._start + got]
        head.surplus = self._filled - self._start > got
        self._got = got
        # One call receives all of it; when SO_RCVTIMEO passes it returns what came, and the next one fails.
        flags = 0 if self._address.tls else MSG_WAITALL
        while got < length:
            count = sock.recv_into(view[got:], length - got, flags)
            if not count:
                raise ConnectionError("closed by the server")
            got += count
            self._got = got
        return chunk

    def _receive_stream(self, sock: socket, head: _Head, parser: HttpResponseParser) -> Chunk:
        """A body whose size is known when it has ended: chunked, or until the server closes. Copied twice."""
        self._expected = -1
        data = self._view[self._start : self._filled]
        scratch = memoryview(bytearray(_SCRATCH))
        while True:
            try:
                parser.feed_data(data)
            except self._parser_errors as error:
                if not head.complete:
                    raise DecodeError(f"{self._address.text}: bad answer body: {error}") from error
                head.surplus = True
            self._got = head.nbytes
            self._check_size(head.nbytes)
            if head.complete:
                break
            count = sock.recv_into(scratch)
            if not count:
                if head.chunked:
                    raise ConnectionError("closed by the server")
                break
            data = scratch[:count]
        chunk = Chunk(head.nbytes)
        view = memoryview(chunk)
        position = 0
        head.pieces.reverse()
        while head.pieces:  # Each piece is freed as soon as it is copied.
            piece = head.pieces.pop()
            view[position : position + len(piece)] = piece
            position += len(piece)
        return chunk

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self._max_nbytes:
            text = f"the answer's body has {nbytes} bytes, max_nbytes is {self._max_nbytes}"
            raise LimitError(f"{self._address.text}: {text}")

    def _progress(self) -> str:
        """How far the exchange came, in words."""
        if not self._received:
            return f"{self._sent} of {self._total} bytes of the request sent, nothing received"
        if self._expected is None:
            return f"{self._filled} bytes of the answer's head received, its end not"
        if self._expected < 0:
            return f"{self._got} bytes of the answer's body received, its end not"
        return f"{self._got} of {self._expected} bytes of the answer's body received"


def _after(buffers: list[bytes | memoryview], count: int) -> list[bytes | memoryview]:
    """The buffers without their first ``count`` bytes: views, nothing is copied."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []
