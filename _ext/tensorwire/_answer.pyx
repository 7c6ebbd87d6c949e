"""The answer to a request of a client, and its head, taken apart by httptools."""

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef enum:
    STEP = 128                  # bytes of a head read at once where a large body may follow
    LONG = 1024                 # from here on it is not worth the system calls

cdef Py_ssize_t LARGEST = 0x7FFFFFFFFFFFFFFF

cdef object httptools = None    # imported with the first parser: a client that is only made needs none


@cython.final
cdef class Answer:
    """A complete response: HTTP status and reason, the body (the receiver is its sole owner), and Retry-After."""

    def __init__(self, int status, str reason, Chunk body not None, bytes retry_after=b""):
        self.status = status
        self.reason = reason
        self.body = body
        self.retry_after = retry_after

    def __repr__(self):
        return f"<Answer {self.status} {self.reason}, {self.body.nbytes:,} bytes>"


cdef object new_parser(AnswerHead head):
    """What parses one response, and tells ``head`` of it."""
    global httptools
    if httptools is None:
        import httptools as module
        httptools = module
    return httptools.HttpResponseParser(head)


cdef object feed(parser, data):
    """Have bytes of a message parsed; returns what is wrong with them (an exception), or None."""
    try:
        parser.feed_data(data)
    except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
        return error
    return None


@cython.final
cdef class AnswerHead:
    """What the parser tells of one response; also collects the body when its size is not known beforehand.

    Its own methods are httptools' callbacks. It does not refer to its parser, which refers to it.
    """

    def __cinit__(self):
        self.reason = ""
        self.coded = self.retry_after = b""
        self.length = -1
        self.pieces = []

    cdef object parse(self, parser, data):
        """Read the head; returns what is wrong with it (an exception), or None."""
        error = feed(parser, data)
        if error is None:
            self.status = parser.get_status_code()
            self.keep = parser.should_keep_alive()
            if self.complete:  # A message that ended with its head: the parser has forgotten it by now.
                self.keep = not self.closes and parser.get_http_version() == "1.1"
        return error

    def on_message_begin(self):
        self.surplus = self.complete

    def on_status(self, bytes reason):
        if not self.complete:
            self.reason = reason.decode("latin-1")

    def on_header(self, bytes name, bytes value):
        cdef Py_ssize_t n = len(name)
        if self.complete:
            return
        if n == 14 and name.lower() == b"content-length":
            self.length = min(int(value), LARGEST)  # llhttp lets 64 unsigned bits through
        elif n == 17 and name.lower() == b"transfer-encoding":
            self.chunked = value.rpartition(b",")[2].strip().lower() == b"chunked"
        elif n == 10 and name.lower() == b"connection":
            self.closes = b"close" in value.lower()
        elif n == 16 and name.lower() == b"content-encoding" and value.lower() != b"identity":
            self.coded = value
        elif n == 11 and name.lower() == b"retry-after":
            self.retry_after = value

    def on_body(self, bytes piece):
        if not self.complete:
            self.pieces.append(piece)
            self.nbytes += len(piece)

    def on_message_complete(self):
        self.complete = True


@cython.final
cdef class HeadBuffer:
    """Where the heads of a connection's answers go (``room``, HEAD_LIMIT bytes), and what the last one was like."""

    def __cinit__(self):
        self.room = bytearray(HEAD_LIMIT)
        self.data = PyByteArray_AS_STRING(self.room)
        self.large = True

    cdef Py_ssize_t repeated(self, Py_ssize_t filled) noexcept:
        """How many of the first bytes are the last head once more, which then still says the same; 0: they are not.

        A server that is asked the same mostly answers with nothing else.
        """
        cdef Py_ssize_t size
        if self.last is None:
            return 0
        size = PyBytes_GET_SIZE(self.text)
        return size if filled >= size and memcmp(self.data, PyBytes_AS_STRING(self.text), size) == 0 else 0

    cdef Py_ssize_t read_end(self, Py_ssize_t filled) noexcept:
        """How far to read for the next head, ``filled`` bytes being there.

        What is read together with a head has to be copied: of a large body, that should be little.
        """
        cdef Py_ssize_t expected = PyBytes_GET_SIZE(self.text) if self.text is not None else 0
        if not self.large or filled >= LONG:
            return HEAD_LIMIT
        return expected if filled < expected else filled + STEP

    cdef int keep_head(self, AnswerHead head, Py_ssize_t start, Py_ssize_t end) except -1:
        """Note the head of an answer, which lies from ``start`` to ``end``."""
        self.text = PyBytes_FromStringAndSize(self.data + start, end - start)
        self.last = None if head.complete or head.chunked or head.length < 0 or head.coded else head
