"""One HTTP/1.1 request of a client and its answer, without a socket: what is still to send, where received bytes go.

A body with a Content-Length is received straight into a Chunk of its size, or in part into an array of the caller's;
chunked bodies and those that end with the connection are collected first.
"""

from collections.abc import Callable

cimport cython
from cpython.memoryview cimport PyMemoryView_FromObject, PyMemoryView_GET_BUFFER
from libc.string cimport memcpy, memmove

from tensorwire._answer cimport HEAD_LIMIT, Answer, AnswerHead, HeadBuffer, feed, new_parser
from tensorwire._c cimport memmem
from tensorwire._copies cimport note_received
from tensorwire._frame cimport Frame
from tensorwire._memory cimport Chunk

from tensorwire.errors import DecodeError, LimitError

cdef enum:
    PREFIX = 4096               # bytes of a body that are received before a Place is asked
    SCRATCH = 256 * 1024        # bytes a read of a body of unknown size
    MAX_INTERIM = 32            # 1xx responses before an answer: real servers send one or two


Place = Callable[[Chunk, int], tuple[int, memoryview] | None]
"""Asked once the first bytes of a body, so many, are in its Chunk: (offset, where those from there on belong)."""


@cython.final
cdef class Format:
    """Format(server, head, max_nbytes)\n--\n\nWhat every exchange with a server has in common: its name in errors, the request head up to the value of
    Content-Length, and the bound on an answer's body.
    """

    def __cinit__(self, str server not None, bytes head not None, Py_ssize_t max_nbytes):
        self.server = server
        self.head = head
        self.max_nbytes = max_nbytes
        self.last_nbytes = -1

    cdef bytes head_for(self, Py_ssize_t nbytes):
        """The whole head of a request with so many bytes; a client's requests are mostly of one size."""
        if nbytes != self.last_nbytes:
            self.last = b"%b%d\r\n\r\n" % (self.head, nbytes)
            self.last_nbytes = nbytes
        return self.last


@cython.final
cdef class Exchange:
    """A request being sent and its answer being received.

    Send ``pending`` and report to ``sent``; receive into ``target()`` and report to ``received`` and ``ended``, until
    there is an ``answer``. ``buffer`` is where heads go; it is free until then.
    """

    def __cinit__(self, Format format not None, Frame frame not None, HeadBuffer buffer not None, place=None):
        cdef bytes head = format.head_for(frame.nbytes)
        self.pending = [head, *frame.buffers]
        self.total = len(head) + frame.nbytes
        self.format = format
        self.place = place
        self.buffer = buffer
        self.keep = True

    @property
    def listening(self):
        """An answer has begun to arrive, in part: to go on sending could wait for ever for a server that answers."""
        return self.filled > self.start or self.head is not None

    cpdef bint sent(self, Py_ssize_t count) except -1:
        """Note that ``count`` bytes of ``pending`` are sent; True when all is."""
        self.sent_nbytes += count
        self.pending = [] if self.sent_nbytes == self.total else after(self.pending, count)
        return not self.pending

    def target(self):
        """Where the next received bytes go, never empty (view)."""
        if self.targets:
            return self.targets[-1]
        return PyMemoryView_FromObject(self.buffer.room)[self.filled:self.buffer.read_end(self.filled)]

    cdef char *room(self, Py_ssize_t *nbytes) except NULL:
        """As ``target``, without a view."""
        if self.targets:
            view = self.targets[-1]
            nbytes[0] = PyMemoryView_GET_BUFFER(view).len
            return <char *>PyMemoryView_GET_BUFFER(view).buf
        nbytes[0] = self.buffer.read_end(self.filled) - self.filled
        return self.buffer.data + self.filled

    cpdef int received(self, Py_ssize_t count) except -1:
        """Note that ``count`` bytes have come. Raises DecodeError (not HTTP/1.1, not ours) and LimitError."""
        self.begun = True
        if self.head is None:
            self.filled += count
            while self.head is None and self.take_head():
                pass
        elif self.expected < 0:
            self.feed(self.scratch[:count])
        else:
            self.fill(count)
        return 0

    cpdef int ended(self) except -1:
        """Note the end of the stream. Raises ConnectionError unless it ends a body without a length."""
        if self.head is None or self.expected >= 0 or self.head.chunked:
            raise ConnectionError("closed by the server")
        self.keep = False
        return self.collect()

    def progress(self):
        """How far the exchange came, in words."""
        if not self.begun:
            return f"{self.sent_nbytes} of {self.total} bytes of the request sent, nothing received"
        if self.head is None:
            return f"{self.filled - self.start} bytes of the answer's head received, its end not"
        if self.expected < 0:
            return f"{self.got} bytes of the answer's body received, its end not"
        return f"{self.got} of {self.expected} bytes of the answer's body received"

    cdef bint take_head(self) except -1:
        """Take up one head if it is complete; True when an interim one was, and more is at hand."""
        cdef HeadBuffer buffer = self.buffer
        cdef AnswerHead head = buffer.last
        cdef Py_ssize_t end = buffer.repeated(self.filled) if not self.start else 0
        cdef Py_ssize_t start = self.start
        cdef Py_ssize_t at = max(start, self.searched)
        cdef char *found
        if end:
            self.start = end
            self.head = head
            self.begin_body(head)
            return False
        found = <char *>memmem(buffer.data + at, self.filled - at, b"\r\n\r\n", 4)
        if found == NULL:
            self.await_head()
            return False
        end = found - buffer.data + 4
        head = AnswerHead.__new__(AnswerHead)
        parser = new_parser(head)  # One parses no more than one response.
        error = head.parse(parser, PyMemoryView_FromObject(buffer.room)[start:end])
        if error is not None:
            raise self.not_http(f"not an HTTP/1.1 answer: {error}") from error
        self.start = self.searched = end
        if head.status >= 200:
            self.head, self.parser = head, parser
            buffer.keep_head(head, start, end)
            self.begin_body(head)
            return False
        self.interim += 1
        if self.interim == MAX_INTERIM:
            raise DecodeError(f"{self.format.server}: {MAX_INTERIM} interim responses and no answer")
        if end < self.filled:
            return True
        self.start = self.filled = self.searched = 0
        return False

    cdef int await_head(self) except -1:
        """The head at hand is not complete: check what is there, and make room for the rest."""
        cdef Py_ssize_t here = self.filled - self.start
        cdef char *data = self.buffer.data
        cdef bytes begins = data[self.start:self.start + min(here, 5)]
        if not b"HTTP/".startswith(begins):
            raise self.not_http("")
        if self.start:  # What interim responses left behind moves to the front.
            memmove(data, data + self.start, here)
            self.start, self.filled = 0, here
        if self.filled == HEAD_LIMIT:
            raise LimitError(f"{self.format.server}: the answer's head is over {HEAD_LIMIT} bytes")
        self.searched = max(0, self.filled - 3)
        return 0

    cdef object not_http(self, str text):
        """The error for bytes that are no head, or one with something wrong."""
        cdef char *data = self.buffer.data
        cdef bytes begins = data[self.start:min(self.filled, self.start + 32)]
        if not begins.startswith(b"HTTP/"[:len(begins)]):
            tls = "; that is TLS: begin the server's address with https://" if begins.startswith(b"\x15\x03") else ""
            text = f"not an HTTP answer: {begins!r}{tls}"
        return DecodeError(f"{self.format.server}: {text}")

    cdef int begin_body(self, AnswerHead head) except -1:
        cdef Py_ssize_t length, got
        if head.coded:
            text = f"the answer's content-encoding is {head.coded!r}; none was offered"
            raise DecodeError(f"{self.format.server}: {text}")
        self.keep = head.keep
        if not head.complete and head.length < 0:
            self.expected = -1
            self.scratch = PyMemoryView_FromObject(bytearray(SCRATCH))
            self.targets = [self.scratch]
            return self.feed(PyMemoryView_FromObject(self.buffer.room)[self.start:self.filled])
        length = self.expected = 0 if head.complete else head.length
        self.buffer.large = length > HEAD_LIMIT
        self.check_size(length)
        self.chunk = Chunk(length)
        got = min(length, self.filled - self.start)
        memcpy(self.chunk.data, self.buffer.data + self.start, got)
        self.chunk.copied = got
        self.surplus = self.filled - self.start > got
        self.got = got
        if got == length:
            return self.finish()
        if self.place is not None and (length <= PREFIX or head.status != 200):
            self.place = None
        self.whole = self.place is None
        view = PyMemoryView_FromObject(self.chunk)
        self.targets = [view[got:] if self.whole else view[got:max(got, PREFIX)]]
        if got >= PREFIX:
            self.fill(0)
        return 0

    cdef int fill(self, Py_ssize_t count) except -1:
        """``count`` more bytes of the body have come to their target."""
        self.got += count
        if self.got == self.expected:
            return self.finish()
        cdef list targets = self.targets
        if count == len(targets[-1]):
            targets.pop()
        elif count:
            targets[-1] = targets[-1][count:]
        if self.place is not None and self.got >= PREFIX:
            self.targets = self.divide()
            self.place, self.whole = None, True
        return 0

    cdef list divide(self):
        """Where the rest of the body goes, the next bytes last."""
        cdef Py_ssize_t got = self.got, offset, ready
        placed = self.place(self.chunk, got)
        view = PyMemoryView_FromObject(self.chunk)
        if placed is None:
            return [view[got:]]
        offset, array = placed
        ready = max(0, got - offset)
        array[:ready] = view[offset:offset + ready]
        note_received(ready)
        parts = [view[max(got, offset + len(array)):], array[ready:], view[got:offset]]
        return [part for part in parts if len(part)]

    cdef int feed(self, data) except -1:
        """Take in a piece of a body whose size is known when it has ended."""
        cdef AnswerHead head = self.head
        error = feed(self.parser, data)
        if error is not None:
            if not head.complete:
                raise DecodeError(f"{self.format.server}: bad answer body: {error}") from error
            head.surplus = True
        self.got = head.nbytes
        self.check_size(head.nbytes)
        if head.complete:
            self.collect()
        return 0

    cdef int collect(self) except -1:
        """Make one Chunk of the pieces (copy)."""
        cdef AnswerHead head = self.head
        cdef Py_ssize_t position = 0
        cdef bytes piece
        self.chunk = Chunk(head.nbytes)
        head.pieces.reverse()
        while head.pieces:  # Each piece is freed as soon as it is copied.
            piece = head.pieces.pop()
            memcpy(self.chunk.data + position, <char *>piece, len(piece))
            position += len(piece)
        self.chunk.copied = position
        self.surplus = head.surplus
        return self.finish()

    cdef int finish(self) except -1:
        cdef AnswerHead head = self.head
        cdef Answer answer = Answer.__new__(Answer)
        self.targets = None
        if self.pending or self.surplus:
            self.keep = False
        answer.status, answer.reason, answer.retry_after = head.status, head.reason, head.retry_after
        answer.body, self.chunk = self.chunk, None
        self.answer = answer
        return 0

    cdef int check_size(self, Py_ssize_t nbytes) except -1:
        if nbytes > self.format.max_nbytes:
            text = f"the answer's body has {nbytes} bytes, max_nbytes is {self.format.max_nbytes}"
            raise LimitError(f"{self.format.server}: {text}")
        return 0


cdef list after(list buffers, Py_ssize_t count):
    """The buffers without their first ``count`` bytes: views, nothing is copied."""
    for index, buffer in enumerate(buffers):
        if count < len(buffer):
            return [PyMemoryView_FromObject(buffer)[count:], *buffers[index + 1:]]
        count -= len(buffer)
    return []
