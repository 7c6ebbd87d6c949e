"""One HTTP/1.1 connection of a server: heads parsed by httptools, bodies received straight into Chunks.

A connection is in one state at a time:

    HEAD ── head complete ──> BODY ── body complete ──> BUSY ── reply ──> HEAD
     │││                       │                                          (or closed)
     ││└─ no memory now: WAITING, until the server's budget has room for the body
     │└── not a wire request: handed over (for good)
     └─── refused: LINGER, which discards what still comes until the peer has read the answer

At most one request of a connection is in flight; what arrives meanwhile waits in the head buffer, and reading pauses
when that is full, or while the body waits for memory.
"""

import asyncio
from time import perf_counter

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcpy

from tensorwire._budget cimport Budget
from tensorwire._pace cimport Pace
from tensorwire._pending cimport Exchange, Link
from tensorwire._frame cimport Frame
from tensorwire._head cimport Head
from tensorwire._heads cimport refresh_date, response_head
from tensorwire._incoming cimport Incoming, has_more
from tensorwire._memory cimport Chunk, budgeted
from tensorwire._outgoing cimport Outgoing

cdef enum State:
    HEAD
    WAITING
    BODY
    BUSY
    LINGER
    CLOSED

cdef enum:
    LINGER_SECONDS = 5
    TLS_HELLO = 0x16            # the first byte of a client that speaks TLS


cdef class _Connection(Link):
    cdef object handler
    cdef Budget budget
    cdef Head parsed                # the head at hand, or the last one
    cdef bint named                 # the head at hand is parsed; a request may be refused before it is
    cdef bint claimed               # it is a wire request's
    cdef bint small                 # the last body was, as the next one will be
    cdef State state                # HEAD at first
    cdef Incoming incoming          # the head at hand, and what came behind the request in flight
    cdef Py_ssize_t received        # bytes of the body so far
    cdef bint keep_alive, advancing, reading_paused, writing_paused
    cdef bint ended                 # the peer sends no more; it may still wait for answers
    cdef bint draining
    cdef Py_ssize_t owed            # requests that were read whole before drain() and have not been taken up yet
    cdef bint active                # bytes moved since the last expire()
    cdef double quiet_since
    cdef double head_since          # when expire() first saw the head at hand incomplete; 0: no such head
    cdef Py_ssize_t unsent
    cdef Pace coming                # of the body at hand
    cdef Pace going                 # of the last answer
    cdef Outgoing outgoing          # once it is made

    def __init__(self, handler):
        self.handler = handler
        self.budget = handler.budget
        self.incoming = Incoming(handler.max_head)
        self.parsed = Head()
        self.coming, self.going = [Pace(handler.body_timeout, handler.min_rate) for _ in range(2)]
        self.active = True

    def connection_made(self, transport):
        self.transport = transport
        self.outgoing = Outgoing(transport)
        refresh_date()
        self.handler.connected(self)

    def connection_lost(self, error):
        if self.state == CLOSED:
            return
        if self.state == WAITING:
            self.budget.leave(self.on_room)
        self.state = CLOSED
        self.transport = None
        if self.exchange is not None:
            self.exchange.abandoned = True
            self.exchange = None
        self.handler.disconnected(self)

    def get_buffer(self, Py_ssize_t hint):
        if self.state == BODY:
            return PyMemoryView_FromObject(self.exchange.body)[self.received:]
        cdef Incoming incoming = self.incoming
        if self.state == HEAD and not self.small:
            return incoming.space(self.parsed.read_end(incoming.filled, incoming.size))
        return incoming.space(incoming.size) if incoming.filled else incoming.block

    def buffer_updated(self, Py_ssize_t n):
        self.active = True
        if self.state == BODY:
            self.received += n
            if self.received == self.exchange.body_nbytes:
                self.dispatch()
                self.advance()
        elif self.state == LINGER:
            self.incoming.filled = 0
        elif self.state != CLOSED:
            self.incoming.filled += n
            if self.state == HEAD:
                self.advance()
            else:
                self.read_on()

    def eof_received(self):
        # A client may close its sending side and still wait for the answers to what it has sent whole.
        self.ended = True
        return self.state in (WAITING, BUSY) or self.held_up()

    cdef bint held_up(self) noexcept:
        """Requests have been read, but are not taken up: the peer does not read the answers to those before."""
        return self.state == HEAD and self.writing_paused and self.incoming.filled > 0

    def pause_writing(self):
        self.writing_paused = True

    def resume_writing(self):
        self.writing_paused = False
        self.advance()

    cdef int advance(self) except -1:
        """Take up the heads that wait in the buffer, one request after the other."""
        if self.advancing:
            return 0
        self.advancing = True
        try:
            while self.state == HEAD and self.incoming.filled and not self.writing_paused and self.take_head():
                pass
        finally:
            self.advancing = False
        if self.ended and self.state in (HEAD, BODY) and not self.held_up():
            self.transport.close()  # the rest of this request will not come
            return 0
        return self.read_on()

    cdef int read_on(self) except -1:
        """Read as long as there is room for what comes behind the request in flight, or behind unread answers."""
        if self.state in (HEAD, BUSY) and self.incoming.filled == self.incoming.size:
            self.pause_reading()
        elif self.state in (HEAD, BODY, BUSY):
            self.resume_reading()
        return 0

    cdef bint take_head(self) except -1:
        """Parse one head if it is all there; True when there may be more to do."""
        cdef Incoming incoming = self.incoming
        cdef Head parsed = self.parsed
        cdef Py_ssize_t size = parsed.repeated(incoming.start(), incoming.filled)
        if not size:
            size = self.parse_head()
            if not size:
                return False
        self.named = True
        self.keep_alive = parsed.keep_alive
        if not self.claimed:
            return self.hand_over()
        self.owed = max(self.owed - 1, 0)
        cdef Exchange exchange = self.new_exchange()
        exchange.body_nbytes = parsed.body_nbytes
        self.small = parsed.body_nbytes <= incoming.size
        self.head_since = 0
        if exchange.body_nbytes > self.handler.max_body:
            incoming.consume(size)
            self.refuse(413, "")
            return False
        if self.budget.waiting:
            incoming.consume(size)
            return self.wait()
        return self.receive(size)

    cdef Py_ssize_t parse_head(self) except -1:
        """The size of the head that begins the buffer, parsed; 0 when it is not all there, or has been refused."""
        cdef Incoming incoming = self.incoming
        cdef Head parsed = self.parsed
        cdef Py_ssize_t size = incoming.head_end()
        self.named = False
        if not size:
            if incoming.start()[0] == TLS_HELLO:
                self.refuse(400, "not an HTTP/1.1 request but TLS, which is not spoken here: use http://")
            elif incoming.filled == incoming.size:
                self.refuse(431, f"the request's head is longer than {incoming.size} bytes")
            return 0
        problem = parsed.parse(PyBytes_FromStringAndSize(incoming.start(), size))
        if problem is not None:
            self.refuse(400, f"not an HTTP/1.1 request: {problem}")
            return 0
        self.claimed = not parsed.chunked and self.handler.claims(parsed.method, parsed.url, parsed.content_type or b"")
        return size

    cdef bint receive(self, Py_ssize_t at) except -1:
        """Make room for the body at hand and take what came with the head, from ``at`` on; True when that was all."""
        cdef Exchange exchange = self.exchange
        cdef Py_ssize_t take
        try:
            exchange.body = budgeted(exchange.body_nbytes, self.budget)
        except MemoryError:
            self.refuse(503, f"no memory for a body of {exchange.body_nbytes:,} bytes; try again later")
            return False
        if exchange.body is None:
            self.incoming.consume(at)
            return self.wait()
        take = min(self.incoming.filled - at, exchange.body_nbytes)
        memcpy(exchange.body.data, self.incoming.start() + at, take)
        exchange.body.copied = take
        self.incoming.consume(at + take)
        self.received = take
        if take == exchange.body_nbytes:
            self.dispatch()
            return True
        self.state = BODY
        self.coming.begin()
        if self.parsed.expects and take == 0:
            self.outgoing.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    cdef bint wait(self) except -1:
        """The body at hand has no room now: read no further until it has, or refuse it."""
        cdef Budget budget = self.budget
        if not budget.wait(self.exchange.body_nbytes, self.on_room):
            self.refuse(503, f"busy: {budget.used:,} bytes of requests are in memory and {budget.waiting} more requests "
                             "wait; try again later")
            return False
        self.state = WAITING
        self.active = True
        self.pause_reading()
        return False

    def on_room(self):
        """The budget has room for the body that waits."""
        self.state = HEAD
        self.active = True
        self.receive(0)
        self.advance()

    cdef Exchange new_exchange(self):
        cdef Exchange exchange = Exchange.__new__(Exchange)
        cdef Head parsed = self.parsed
        if self.named:
            exchange.method, exchange.path, exchange.deadline = parsed.method, parsed.url, parsed.deadline
            exchange.fields = parsed.fields
            self.named = False
        else:
            exchange.method = exchange.path = b""
            exchange.fields = []
        exchange.started = perf_counter()
        exchange.link = self
        self.exchange = exchange
        return exchange

    cdef bint hand_over(self) except -1:
        """Give the connection, and what was read of it, to the other protocols' server for good."""
        data = bytes(PyMemoryView_FromObject(self.incoming.block)[:self.incoming.filled])
        transport, self.transport = self.transport, None
        self.state = CLOSED
        self.handler.disconnected(self)
        self.handler.hand_over(transport, data)

    cdef int dispatch(self) except -1:
        self.state = BUSY
        self.handler.handle(self.exchange)

    cdef int answer(self, int status, Frame frame) except -1:
        cdef Exchange exchange = self.exchange
        self.exchange = None
        if (self.ended and not self.incoming.filled) or (self.draining and not self.owed):
            self.keep_alive = False
        self.send(status, frame)
        self.handler.replied(exchange, status, frame.nbytes)
        if self.state == CLOSED:
            return 0
        if not self.keep_alive:
            return self.finish(self.incoming.filled > 0 or self.reading_paused or
                               (self.draining and has_more(self.transport)))
        self.state = HEAD
        return self.advance()

    cdef int finish(self, bint more_comes) except -1:
        """End the connection after what is still to be written. What ``more_comes`` is discarded before: closing over it
        would reset the connection, and the peer might never see the answer."""
        self.state, self.incoming.filled, self.active = LINGER, 0, True
        if self.ended or not more_comes:
            self.transport.close()
            return 0
        self.resume_reading()
        if self.transport.can_write_eof():
            self.transport.write_eof()
        return 0

    cdef int pause_reading(self) except -1:
        if not self.reading_paused and not self.ended:
            self.reading_paused = True
            self.transport.pause_reading()

    cdef int resume_reading(self) except -1:
        if self.reading_paused:
            self.reading_paused = False
            self.transport.resume_reading()
        return 0

    cdef int send(self, int status, Frame frame) except -1:
        self.going.begin()
        return self.outgoing.send(response_head(status, frame.nbytes, self.keep_alive, self.parsed.old_http), frame)

    cdef int refuse(self, int status, str reason) except -1:
        """Answer before the request was read, then discard what still comes of it."""
        cdef Exchange exchange = self.exchange if self.exchange is not None else self.new_exchange()
        frame = self.handler.refuse(exchange, status, reason)
        self.keep_alive = False
        exchange.body = None
        self.send(status, frame)
        self.exchange = None
        self.state, self.incoming.filled, self.active = LINGER, 0, True
        self.handler.replied(exchange, status, frame.nbytes)
        return 0 if self.transport is None else self.finish(True)

    def expire(self, double now):
        """Call every second with loop.time(): closes the connection when one of the handler's timeouts has passed."""
        refresh_date()
        if self.transport is None:
            return
        cdef Py_ssize_t unsent = self.transport.get_write_buffer_size()
        if self.state != HEAD or not self.incoming.filled:
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
            if self.going.left_too_long(now, unsent):
                self.transport.abort()
            elif self.state == BODY and self.coming.too_slow(now, self.received):
                self.refuse(408, f"the body comes at less than {self.handler.min_rate:,} bytes a second: "
                                 f"{self.received:,} of {self.exchange.body_nbytes:,} have come")
            return
        cdef double quiet = now - self.quiet_since
        if unsent:
            if quiet > self.handler.body_timeout:
                self.transport.abort()
        elif self.state == BODY and quiet > self.handler.body_timeout:
            self.refuse(408, f"no byte of the body came for {self.handler.body_timeout:g} seconds; "
                             f"{self.received:,} of {self.exchange.body_nbytes:,} had come")
        elif self.state == WAITING and quiet > self.handler.body_timeout:
            self.budget.leave(self.on_room)
            self.refuse(503, f"no memory for {self.exchange.body_nbytes:,} bytes within {quiet:.0f} seconds; try later")
        elif self.state == HEAD and not self.incoming.filled and quiet > self.handler.idle_timeout:
            self.transport.close()
        elif self.state == LINGER and quiet > LINGER_SECONDS:
            self.transport.abort()

    def drain(self):
        """Begin to close: at once when idle (returns True), else after the answers to all requests read so far (False).
        """
        if not self.draining:
            self.draining = True
            self.owed = self.incoming.whole_requests(self.exchange.body_nbytes if self.state == WAITING else 0)
        if self.busy or (self.owed and self.held_up()):
            return False
        if self.transport is not None and self.state != LINGER:
            self.transport.close()
        return True

    def turn_away(self, str reason):
        """Answer 503 to whatever will come, and close."""
        self.refuse(503, reason)

    def abort(self):
        """Close at once, whatever is unsent or unanswered."""
        if self.transport is not None:
            self.transport.abort()

    @property
    def busy(self):
        """A request is being received or answered."""
        return self.state in (WAITING, BODY, BUSY)


class Connection(_Connection, asyncio.BufferedProtocol):
    """One accepted connection. Made by ``loop.create_server(lambda: Connection(handler), ...)``."""

