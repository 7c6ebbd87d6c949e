"""What has been read from a connection and not been taken: heads, and requests behind the one in flight."""

import httptools

cimport cython
from cpython.bytearray cimport PyByteArray_AS_STRING
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memmove

from tensorwire._c cimport memmem
from tensorwire._poll cimport readable


@cython.final
cdef class Incoming:
    """A block of so many bytes that is filled by the loop and emptied from its start."""

    def __init__(self, Py_ssize_t size):
        self.block = bytearray(size)
        self.size = size

    cdef char *start(self) noexcept:
        return PyByteArray_AS_STRING(self.block)

    cdef object space(self, Py_ssize_t end):
        """A view of what is free, up to ``end``."""
        return PyMemoryView_FromObject(self.block)[self.filled:end]

    cdef Py_ssize_t head_end(self) noexcept:
        """The size of the head that begins the block, its empty line included; 0 when it is not all there."""
        cdef Py_ssize_t back = self.scanned - 3 if self.scanned > 3 else 0
        cdef char *found = <char *>memmem(self.start() + back, self.filled - back, b"\r\n\r\n", 4)
        self.scanned = self.filled
        return found + 4 - self.start() if found != NULL else 0

    cdef void consume(self, Py_ssize_t n) noexcept:
        cdef char *start = self.start()
        self.scanned = 0
        self.filled -= n
        if self.filled:
            memmove(start, start + n, self.filled)

    cdef Py_ssize_t whole_requests(self, Py_ssize_t at) except -1:
        """How many requests, one behind the other from the byte ``at`` on, are there to their last byte."""
        if self.filled <= at:
            return 0
        counted = _Counted()
        parser = httptools.HttpRequestParser(counted)
        try:
            parser.feed_data(bytes(PyMemoryView_FromObject(self.block)[at:self.filled]))
        except (httptools.HttpParserError, httptools.HttpParserUpgrade):
            pass  # what follows is not read as a request, or not known to be one
        return counted.whole


cdef class _Counted:
    """httptools' callbacks: counts the messages that are complete."""

    cdef Py_ssize_t whole

    def on_message_complete(self):
        self.whole += 1


cpdef bint has_more(object transport) except -1:
    """Whether the system holds something that has not been read from the connection, its end included."""
    sock = transport.get_extra_info("socket")
    return sock is not None and sock.fileno() >= 0 and readable(sock.fileno())
