"""One HTTP/1.1 request and its answer, without a socket: what is still to send, and where received bytes go.

Heads are parsed by httptools. A body with a Content-Length is received straight into a Chunk of its size, or
in part into an array of the caller's; chunked bodies and those that end with the connection are collected
first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

from tensorwire._copies import count_received
from tensorwire._memory import Chunk
from tensorwire.errors import DecodeError, LimitError

if TYPE_CHECKING:
    from httptools import HttpResponseParser

    from tensorwire._frame import Frame

Place = Callable[[Chunk, int], tuple[int, memoryview] | None]
"""Asked once the first bytes of a body, so many, are in its Chunk: (offset, where those from there on belong)."""

_STEP: Final = 128  # bytes of a head read at once where a large body may follow
HEAD_LIMIT: Final = 16 * 1024  # bytes of an answer's head; what llhttp-based servers allow for a request's
PREFIX: Final = 4096  # bytes of a body that are received before a Place is asked
_SCRATCH: Final = 256 * 1024  # bytes a read of a body of unknown size
_MAX_INTERIM: Final = 32  # 1xx responses before an answer: real servers send one or two
_END_OF_HEAD: Final = b"\r\n\r\n"
_FIELDS: Final = (b"content-length", b"transfer-encoding", b"connection", b"content-encoding", b"retry-after")
_LENGTHS: Final = frozenset(map(len, _FIELDS))


class Answer(NamedTuple):
    """A complete response: HTTP status and reason, the body (the receiver is its sole owner), and Retry-After."""

    status: int
    reason: str
    body: Chunk
    retry_after: bytes = b""


class _Head:
    """What the parser tells of one response; also collects the body when its size is not known beforehand."""

    reason = coded = retry_after = b""
    length: int | None = None
    chunked = closes = complete = surplus = False
    nbytes = 0

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def on_message_begin(self) -> None:
        self.surplus = self.complete

    def on_status(self, reason: bytes) -> None:
        self.reason = reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if len(name) not in _LENGTHS:  # Most fields are none of ours.
            return
        name = name.lower()
        if name == b"content-length":
            self.length = int(value)
        elif name == b"transfer-encoding":
            self.chunked = value.rpartition(b",")[2].strip().lower() == b"chunked"
        elif name == b"connection":
            self.closes = b"close" in value.lower()
        elif name == b"content-encoding" and value.lower() != b"identity":
            self.coded = value
        elif name == b"retry-after":
            self.retry_after = value

    def on_body(self, piece: bytes) -> None:
        if not self.complete:
            self.pieces.append(piece)
            self.nbytes += len(piece)

    def on_message_complete(self) -> None:
        self.complete = True


class Format(NamedTuple):
    """What every exchange with a server has in common: its name in errors, the request head up to the value of
    Content-Length, the bound on an answer's body, and the parser (httptools, loaded with the first connection).
    """

    server: str
    head: bytes
    max_nbytes: int
    parser: type[HttpResponseParser]
    errors: tuple[type[Exception], ...]


def load_format(server: str, head: bytes, max_nbytes: int) -> Format:
    """Import the parser: a codec user needs no HTTP."""
    from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

    return Format(server, head, max_nbytes, HttpResponseParser, (HttpParserError, HttpParserUpgrade))


class HeadBuffer(bytearray):
    """Where the heads of a connection's answers go, HEAD_LIMIT bytes, and what the last one was like."""

    expected = 0  # bytes of it
    large = True  # a body over HEAD_LIMIT came after it, or none yet: what is read with its head has to be copied

    def __init__(self) -> None:
        super().__init__(HEAD_LIMIT)


class Exchange:
    """A request being sent and its answer being received.

    Send ``pending`` and report to ``sent``; receive into ``target()`` and report to ``received`` and ``ended``,
    until there is an ``answer``. ``buffer`` is where heads go; it is free until then.
    """

    # What most exchanges leave as it is stands here, not in the constructor.
    answer: Answer | None = None
    begun = False  # any byte of an answer has come
    keep = True  # the connection may serve another exchange after this one
    whole = False  # the target is a body's end: it may be waited for in one piece
    # Received bytes of heads that are not yet consumed lie in _view[_start:_filled].
    _start = _filled = _searched = _interim = 0
    _head: _Head | None = None  # of the answer, complete
    _parser: tuple[_Head, HttpResponseParser] | None = None  # of the head that comes next, or of the answer
    _targets: list[memoryview] | None = None  # where a body's bytes go, the next ones last
    # Progress, for the texts of errors. _expected: bytes of the body, -1 while its size is not known.
    _sent = _got = _expected = 0

    def __init__(self, format: Format, frame: Frame, buffer: HeadBuffer, place: Place | None = None) -> None:
        head = b"%b%d\r\n\r\n" % (format.head, frame.nbytes)
        self.pending: list[bytes | memoryview] = [head, *frame.buffers]
        self._total = len(head) + frame.nbytes
        self._format = format
        self._place = place
        self._buffer, self._view = buffer, memoryview(buffer)

    @property
    def listening(self) -> bool:
        """An answer has begun to arrive, in part: to go on sending could wait for ever for a server that answers."""
        return self._filled > self._start or self._head is not None

    def sent(self, count: int) -> bool:
        """Note that ``count`` bytes of ``pending`` are sent; True when all is."""
        self._sent += count
        self.pending = [] if self._sent == self._total else _after(self.pending, count)
        return not self.pending

    def target(self) -> memoryview:
        """Where the next received bytes go, never empty (view)."""
        if self._targets:
            return self._targets[-1]
        if self._parser is None:  # Made while the server is at work.
            self._await_answer()
        filled, buffer = self._filled, self._buffer
        if not buffer.large or self._interim or filled >= 1024:
            return self._view[filled:]
        return self._view[filled : buffer.expected if filled < buffer.expected else filled + _STEP]

    def received(self, count: int) -> None:
        """Note that ``count`` bytes have come. Raises DecodeError (not HTTP/1.1, not ours) and LimitError."""
        self.begun = True
        head = self._head
        if head is None:
            self._filled += count
            while self._head is None and self._take_head():
                pass
        elif self._expected < 0:
            self._feed(self._scratch[:count])
        else:
            self._fill(head, count)

    def ended(self) -> None:
        """Note the end of the stream. Raises ConnectionError unless it ends a body without a length."""
        head = self._head
        if head is None or self._expected >= 0 or head.chunked:
            raise ConnectionError("closed by the server")
        self.keep = False
        self._collect(head)

    def progress(self) -> str:
        """How far the exchange came, in words."""
        if not self.begun:
            return f"{self._sent} of {self._total} bytes of the request sent, nothing received"
        if self._head is None:
            return f"{self._filled - self._start} bytes of the answer's head received, its end not"
        if self._expected < 0:
            return f"{self._got} bytes of the answer's body received, its end not"
        return f"{self._got} of {self._expected} bytes of the answer's body received"

    def _take_head(self) -> bool:
        """Parse one head if it is complete; True when an interim one was, and more is at hand."""
        buffer, start, filled = self._buffer, self._start, self._filled
        end = buffer.find(_END_OF_HEAD, max(start, self._searched), filled)
        if end < 0:
            self._await_head(start, filled)
            return False
        end += len(_END_OF_HEAD)
        head, parser = self._parser or self._await_answer()
        try:
            parser.feed_data(self._view[start:end])
        except self._format.errors as error:
            raise self._not_http(start, f"not an HTTP/1.1 answer: {error}") from error
        self._start = self._searched = end
        self._status = parser.get_status_code()
        if self._status >= 200:
            self._head = head
            buffer.expected = end - start
            self._begin_body(head, parser)
            return False
        self._parser = None
        self._interim += 1
        if self._interim == _MAX_INTERIM:
            raise DecodeError(f"{self._format.server}: {_MAX_INTERIM} interim responses and no answer")
        if end < filled:
            return True
        self._start = self._filled = self._searched = 0
        return False

    def _await_head(self, start: int, filled: int) -> None:
        begins = self._buffer[start : min(filled, start + 5)]
        if begins != b"HTTP/"[: len(begins)]:
            raise self._not_http(start, "")
        if start:  # What interim responses left behind moves to the front.
            self._view[: filled - start] = bytes(self._view[start:filled])
            self._start, self._filled = 0, filled - start
        if self._filled == HEAD_LIMIT:
            raise LimitError(f"{self._format.server}: the answer's head is over {HEAD_LIMIT} bytes")
        self._searched = max(0, self._filled - len(_END_OF_HEAD) + 1)

    def _not_http(self, start: int, text: str) -> DecodeError:
        if self._buffer[start : min(self._filled, start + 5)] != b"HTTP/"[: self._filled - start]:
            begins = bytes(self._view[start : min(self._filled, start + 32)])
            tls = "; that is TLS: begin the server's address with https://" if begins.startswith(b"\x15\x03") else ""
            text = f"not an HTTP answer: {begins!r}{tls}"
        return DecodeError(f"{self._format.server}: {text}")

    def _await_answer(self) -> tuple[_Head, HttpResponseParser]:
        """Make a parser for the next head; one parses no more than one response."""
        head = _Head()
        self._parser = head, self._format.parser(head)
        return self._parser

    def _begin_body(self, head: _Head, parser: HttpResponseParser) -> None:
        if head.coded:
            text = f"{self._format.server}: the answer's content-encoding is {head.coded!r}; none was offered"
            raise DecodeError(text)
        self.keep = parser.should_keep_alive()
        if head.complete:  # A message that ended with its head: the parser has forgotten it by now.
            self.keep = not head.closes and parser.get_http_version() == "1.1"
        elif head.length is None:
            self._expected = -1
            self._scratch = memoryview(bytearray(_SCRATCH))
            self._targets = [self._scratch]
            self._feed(self._view[self._start : self._filled])
            return
        length = self._expected = 0 if head.complete else head.length or 0
        self._buffer.large = length > HEAD_LIMIT
        self._check_size(length)
        chunk = self._chunk = Chunk(length)
        view = memoryview(chunk)
        got = min(length, self._filled - self._start)
        view[:got] = self._view[self._start : self._start + got]
        chunk.copied = got
        head.surplus = self._filled - self._start > got
        self._got = got
        if got == length:
            self._finish(head, chunk)
            return
        if self._place is not None and (length <= PREFIX or self._status != 200):
            self._place = None
        self.whole = self._place is None
        self._targets = [view[got:] if self.whole else view[got : max(got, PREFIX)]]
        if got >= PREFIX:
            self._fill(head, 0)

    def _fill(self, head: _Head, count: int) -> None:
        """``count`` more bytes of the body have come to their target."""
        self._got += count
        if self._got == self._expected:
            self._finish(head, self._chunk)
            return
        targets = self._targets
        assert targets is not None
        if count == len(targets[-1]):
            targets.pop()
        elif count:
            targets[-1] = targets[-1][count:]
        if self._place is not None and self._got >= PREFIX:
            self._targets = self._divide(self._place, memoryview(self._chunk), self._got)
            self._place, self.whole = None, True

    def _divide(self, place: Place, view: memoryview, got: int) -> list[memoryview]:
        """Where the rest of the body goes, the next bytes last."""
        placed = place(self._chunk, got)
        if placed is None:
            return [view[got:]]
        offset, array = placed
        ready = max(0, got - offset)
        array[:ready] = view[offset : offset + ready]
        count_received(ready)
        parts = [view[max(got, offset + len(array)) :], array[ready:], view[got:offset]]
        return [part for part in parts if len(part)]

    def _feed(self, data: memoryview) -> None:
        """Take in a piece of a body whose size is known when it has ended."""
        assert self._parser is not None
        head, parser = self._parser
        try:
            parser.feed_data(data)
        except self._format.errors as error:
            if not head.complete:
                raise DecodeError(f"{self._format.server}: bad answer body: {error}") from error
            head.surplus = True
        self._got = head.nbytes
        self._check_size(head.nbytes)
        if head.complete:
            self._collect(head)

    def _collect(self, head: _Head) -> None:
        """Make one Chunk of the pieces (copy)."""
        chunk = Chunk(head.nbytes)
        view = memoryview(chunk)
        position = 0
        head.pieces.reverse()
        while head.pieces:  # Each piece is freed as soon as it is copied.
            piece = head.pieces.pop()
            view[position : position + len(piece)] = piece
            position += len(piece)
        chunk.copied = position
        self._finish(head, chunk)

    def _finish(self, head: _Head, chunk: Chunk) -> None:
        self._targets = None
        if self.pending or head.surplus:
            self.keep = False
        self.answer = Answer(self._status, head.reason.decode("latin-1"), chunk, head.retry_after)

    def _check_size(self, nbytes: int) -> None:
        if nbytes > self._format.max_nbytes:
            text = f"the answer's body has {nbytes} bytes, max_nbytes is {self._format.max_nbytes}"
            raise LimitError(f"{self._format.server}: {text}")


def _after(buffers: list[bytes | memoryview], count: int) -> list[bytes | memoryview]:
    """The buffers without their first ``count`` bytes: views, nothing is copied."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [memoryview(buffer)[count:], *buffers[index + 1 :]]
        count -= len(buffer)
    return []
