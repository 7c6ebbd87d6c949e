"""One HTTP/1.1 connection of a server: heads parsed by httptools, bodies received straight into Chunks.

A connection is in one state at a time:

    HEAD ── head complete ──> BODY ── body complete ──> BUSY ── reply ──> HEAD
      │ └── not a wire request: handed over (for good)                     (or closed)
      └──── refused: LINGER, which discards what still comes until the peer has read the answer

At most one request of a connection is in flight; what arrives meanwhile waits in the head buffer, and reading pauses
when that is full.
"""

import asyncio
from time import perf_counter

import httptools

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy, memmove

from tensorwire._c cimport memmem
from tensorwire._frame cimport Frame
from tensorwire._memory cimport Chunk

import tensorwire._heads as _heads

cdef enum State:
    HEAD
    BODY
    BUSY
    LINGER
    CLOSED

cdef enum:
    LINGER_SECONDS = 5
    JOINED_NBYTES = 1 << 14     # replies up to here go out as one string: cheaper than a vectored write


@cython.final
cdef class Exchange:
    """One request on a connection and the place for its answer.

    ``method`` and ``path`` (the raw target, query included) are as received; ``body`` is the whole body, exactly, or
    None when it was never read (arrays decoded from it are views that keep it alive); ``body_nbytes`` is the length
    announced; ``started`` is time.perf_counter() when the head was complete; ``abandoned`` is True once the client has
    gone away, when an answer would be thrown away.
    """

    cdef readonly bytes method
    cdef readonly bytes path
    cdef readonly Chunk body
    cdef readonly Py_ssize_t body_nbytes
    cdef readonly double started
    cdef readonly bint abandoned
    cdef list fields
    cdef _Connection connection

    @property
    def headers(self):
        """Header fields by lower-case name; a repeated field keeps its last value."""
        """Header fields by lower-case name (a new dict); a repeated field keeps its last value."""
        return {name.lower(): value for name, value in self.fields}

    @property
    def peer(self):
        """The other side, for logs: '127.0.0.1:50000', or 'unix'."""
        """The other side, for logs: '127.0.0.1:50000', or 'unix'."""
        return self.connection.peer()

    def reply(self, int status, Frame frame not None):
        """Send the answer: head, then the frame's buffers as they are (views are kept until written)."""
        if self.abandoned:
            return
        if self.connection.exchange is not self:
            raise RuntimeError("this exchange has been answered already")
        self.connection.answer(status, frame)


cdef class _Connection:
    cdef object handler
    cdef object transport
    cdef Exchange exchange          # the request being received or answered
    cdef State state
    cdef bytearray head             # never resized: the loop holds an export of it while it reads
    cdef Py_ssize_t filled          # bytes of `head` in use
    cdef Py_ssize_t scanned         # of these, searched for the end of a head
    cdef Py_ssize_t received        # bytes of the body so far
    cdef bint keep_alive
    cdef bint old_http              # HTTP/1.0: keep-alive must be said
    cdef bint advancing
    cdef bint reading_paused
    cdef bint writing_paused
    cdef bint active                # bytes moved since the last expire()
    cdef double quiet_since
    cdef double head_since          # when expire() first saw the head at hand incomplete; 0: no such head
    cdef Py_ssize_t unsent
    # What the parser's callbacks leave behind for the head at hand.
    cdef bytes url
    cdef list fields
    cdef bytes content_type
    cdef bytes content_length
    cdef bytes expect
    cdef bint chunked
    cdef bint head_complete

    def __init__(self, handler):
        self.handler = handler
        self.state = HEAD
        self.head = bytearray(handler.max_head)
        self.active = True

    def connection_made(self, transport):
        self.transport = transport
        _heads.refresh_date()
        self.handler.connected(self)

    def connection_lost(self, error):
        if self.state == CLOSED:
            return
        self.state = CLOSED
        self.transport = None
        if self.exchange is not None:
            self.exchange.abandoned = True
            self.exchange = None
        self.handler.disconnected(self)

    def get_buffer(self, Py_ssize_t hint):
        if self.state == BODY:
            return PyMemoryView_FromObject(self.exchange.body)[self.received:]
        if self.filled:
            return PyMemoryView_FromObject(self.head)[self.filled:]
        return self.head

    def buffer_updated(self, Py_ssize_t n):
        self.active = True
        if self.state == BODY:
            self.received += n
            if self.received == self.exchange.body_nbytes:
                self.dispatch()
                self.advance()
        elif self.state == LINGER:
            self.filled = 0
        elif self.state != CLOSED:
            self.filled += n
            if self.state == HEAD:
                self.advance()
            if self.filled == len(self.head) and self.state == BUSY and not self.reading_paused:
                self.reading_paused = True
                self.transport.pause_reading()

    def eof_received(self):
        # A client may close its sending side and still wait for the answer; without a whole request there is none.
        if self.state == BUSY:
            self.keep_alive = False
            return True
        return False

    def pause_writing(self):
        self.writing_paused = True

    def resume_writing(self):
        self.writing_paused = False
        self.advance()

    def on_url(self, bytes url):
        self.url = url if self.url is None else self.url + url

    def on_header(self, bytes name, bytes value):
        cdef Py_ssize_t n = len(name)
        self.fields.append((name, value))
        if n == 12 and name.lower() == b"content-type":
            self.content_type = value
        elif n == 14 and name.lower() == b"content-length":
            self.content_length = value
        elif n == 17 and name.lower() == b"transfer-encoding":
            self.chunked = True
        elif n == 6 and name.lower() == b"expect":
            self.expect = value

    def on_headers_complete(self):
        self.head_complete = True

    cdef int advance(self) except -1:
        """Take up the heads that wait in the buffer, one request after the other."""
        if self.advancing:
            return 0
        self.advancing = True
        try:
            while self.state == HEAD and self.filled and not self.writing_paused and self.take_head():
                pass
        finally:
            self.advancing = False
        return 0

    cdef bint take_head(self) except -1:
        """Parse one head if it is all there; True when there may be more to do."""
        cdef char *start = PyByteArray_AS_STRING(self.head)
        cdef Py_ssize_t back = self.scanned - 3 if self.scanned > 3 else 0
        cdef char *end = <char *>memmem(start + back, self.filled - back, b"\r\n\r\n", 4)
        self.scanned = self.filled
        if end == NULL:
            if self.filled == len(self.head):
                self.refuse(431, f"the request's head is longer than {len(self.head)} bytes")
            return False
        self.scanned = 0
        cdef Py_ssize_t size = end + 4 - start
        self.url = self.content_type = self.content_length = self.expect = None
        self.fields = []
        self.chunked = self.head_complete = False
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(PyBytes_FromStringAndSize(start, size))
        except httptools.HttpParserUpgrade:
            pass  # an offer to change the protocol; answering in this one declines it
        except httptools.HttpParserError as error:
            self.refuse(400, f"not an HTTP/1.1 request: {error}")
            return False
        if not self.head_complete or self.url is None:
            self.refuse(400, "not an HTTP/1.1 request: no request line")
            return False
        self.keep_alive = parser.should_keep_alive()
        self.old_http = parser.get_http_version() == "1.0"
        method = parser.get_method()
        if self.chunked or not self.handler.claims(method, self.url, self.content_type or b""):
            return self.hand_over()
        return self.begin(method, size)

    cdef bint begin(self, bytes method, Py_ssize_t head_size) except -1:
        """A wire request's head is complete: make room for its body and take what came with the head."""
        cdef Exchange exchange = self.new_exchange(method)
        cdef Py_ssize_t take
        # llhttp has checked that the length is digits and fits 64 bits.
        length = int(self.content_length) if self.content_length is not None else 0
        exchange.body_nbytes = min(length, <Py_ssize_t>0x7FFFFFFFFFFFFFFF)
        self.consume(head_size)
        self.head_since = 0
        if length > self.handler.max_body:
            self.refuse(413, "")
            return False
        try:
            exchange.body = Chunk(length)
        except MemoryError:
            self.refuse(503, f"no memory for a body of {length:,} bytes; try again later")
            return False
        take = min(self.filled, exchange.body_nbytes)
        memcpy(exchange.body.data, PyByteArray_AS_STRING(self.head), take)
        self.consume(take)
        self.received = take
        if take == exchange.body_nbytes:
            self.dispatch()
            return True
        self.state = BODY
        if self.expect is not None and self.expect.lower() == b"100-continue" and take == 0:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    cdef Exchange new_exchange(self, bytes method):
        cdef Exchange exchange = Exchange.__new__(Exchange)
        exchange.method = method
        exchange.path = self.url if self.url is not None else b""
        exchange.fields = self.fields if self.fields is not None else []
        exchange.started = perf_counter()
        exchange.connection = self
        self.exchange = exchange
        return exchange

    cdef void consume(self, Py_ssize_t n) noexcept:
        cdef char *start = PyByteArray_AS_STRING(self.head)
        self.filled -= n
        memmove(start, start + n, self.filled)

    cdef bint hand_over(self) except -1:
        """Give the connection, and what was read of it, to the other protocols' server for good."""
        data = bytes(self.head[:self.filled])
        transport, self.transport = self.transport, None
        self.state = CLOSED
        self.handler.disconnected(self)
        self.handler.hand_over(transport, data)
        return False

    cdef int dispatch(self) except -1:
        self.state = BUSY
        self.handler.handle(self.exchange)
        return 0

    cdef int answer(self, int status, Frame frame) except -1:
        cdef Exchange exchange = self.exchange
        self.exchange = None
        self.send(status, frame)
        self.handler.replied(exchange, status, frame.nbytes)
        if self.state == CLOSED:
            return 0
        if not self.keep_alive:
            self.state, self.filled = LINGER, 0
            self.transport.close()  # after what is still to be written
            return 0
        self.state = HEAD
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        return self.advance()

    cdef int send(self, int status, Frame frame) except -1:
        connection = _heads.CLOSE if not self.keep_alive else _heads.KEEP_ALIVE if self.old_http else b""
        head = _heads.response_head(status, frame.nbytes, connection)
        if frame.nbytes <= JOINED_NBYTES:
            self.transport.write(head + b"".join(frame.buffers))
        else:
            self.transport.writelines([head, *frame.buffers])
        return 0

    cdef int refuse(self, int status, str reason) except -1:
        """Answer before the request was read, then discard what still comes: closing now would reset the
        connection, and the peer might never see the answer."""
        cdef Exchange exchange = self.exchange if self.exchange is not None else self.new_exchange(b"")
        frame = self.handler.refuse(exchange, status, reason)
        self.keep_alive = False
        exchange.body = None
        self.send(status, frame)
        self.exchange = None
        self.state, self.filled, self.active = LINGER, 0, True
        self.handler.replied(exchange, status, frame.nbytes)
        if self.transport is not None and self.transport.can_write_eof():
            self.transport.write_eof()
        return 0

    def expire(self, double now):
        """Call every second with loop.time(): closes the connection when one of the handler's timeouts has passed."""
        cdef Py_ssize_t unsent
        _heads.refresh_date()
        if self.transport is None:
            return
        unsent = self.transport.get_write_buffer_size()
        if self.state != HEAD or not self.filled:
            self.head_since = 0
        elif not self.head_since:
            self.head_since = now
        elif now - self.head_since > self.handler.head_timeout and not self.writing_paused:
            self.refuse(408, f"the request's head was not complete within {self.handler.head_timeout:g} seconds")
            return
        if self.active or unsent != self.unsent:
            self.active = False
            self.unsent = unsent
            self.quiet_since = now
            return
        cdef double quiet = now - self.quiet_since
        if unsent:
            if quiet > self.handler.body_timeout:
                self.transport.abort()
        elif self.state == BODY and quiet > self.handler.body_timeout:
            self.refuse(408, f"no byte of the body came for {self.handler.body_timeout:g} seconds; "
                             f"{self.received:,} of {self.exchange.body_nbytes:,} had come")
        elif self.state == HEAD and not self.filled and quiet > self.handler.idle_timeout:
            self.transport.close()
        elif self.state == LINGER and quiet > LINGER_SECONDS:
            self.transport.abort()

    def drain(self):
        """Begin to close: at once when idle (returns True), after the answer in flight otherwise (False)."""
        if self.busy:
            self.keep_alive = False
            return False
        if self.transport is not None and self.state != LINGER:
            self.transport.close()
        return True

    def abort(self):
        """Close at once, whatever is unsent or unanswered."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def busy(self):
        """A request is being received or answered."""
        return self.state == BODY or self.state == BUSY

    cdef str peer(self):
        name = self.transport.get_extra_info("peername") if self.transport is not None else None
        if isinstance(name, tuple):
            return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
        return "unix" if self.transport is not None else "gone"


class Connection(_Connection, asyncio.BufferedProtocol):
    """One accepted connection. Made by ``loop.create_server(lambda: Connection(handler), ...)``."""

