"""The head of one HTTP/1.1 request, taken apart by httptools."""

import httptools

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memcmp

cdef enum:
    STEP = 128                  # bytes; the tables of a message are as many at least
    LONG = 1024                 # from here on it is not worth the system calls

cdef Py_ssize_t LARGEST = 0x7FFFFFFFFFFFFFFF


@cython.final
cdef class Head:
    """What a request's head says. Its own methods are httptools' callbacks.

    httptools (llhttp, strict) refuses what could be read in two ways: two Content-Lengths, Content-Length beside
    Transfer-Encoding, folded lines, lengths that are not digits, bare CR or LF.
    """

    cdef Py_ssize_t repeated(self, const char *start, Py_ssize_t filled) noexcept:
        """How many of the bytes at hand are the last head once more, which then still says the same; 0: they are not.

        A client that keeps its connection mostly sends nothing else.
        """
        cdef Py_ssize_t size
        if self.text is None:
            return 0
        size = PyBytes_GET_SIZE(self.text)
        return size if filled >= size and memcmp(start, PyBytes_AS_STRING(self.text), size) == 0 else 0

    cdef Py_ssize_t read_end(self, Py_ssize_t filled, Py_ssize_t room) noexcept:
        """How far to read for the next head, ``filled`` bytes being there of ``room``, where a large body may follow.

        What comes with a head has to be copied, so it should be no more of a body than a message's own tables.
        """
        cdef Py_ssize_t expected = PyBytes_GET_SIZE(self.text) if self.text is not None else 0
        if filled < expected <= room:
            return expected
        return min(filled + STEP, room) if filled < LONG else room

    cdef str parse(self, bytes text):
        """Read a whole head, up to its empty line; returns what is wrong with it, or None."""
        self.text = None
        self.method = self.url = self.content_type = self.content_length = self.deadline = None
        self.fields = []
        self.chunked = self.expects = self.complete = False
        parser = httptools.HttpRequestParser(self)
        try:
            parser.feed_data(text)
        except httptools.HttpParserUpgrade:
            pass  # an offer to change the protocol; answering in this one declines it
        except httptools.HttpParserError as error:
            return str(error)
        if not self.complete or self.url is None:
            return "no request line"
        self.keep_alive = parser.should_keep_alive()
        cdef Py_ssize_t end = text.find(b"\r\n")  # of the request line; parser.get_http_version() formats a string
        self.old_http = end > 3 and text[end - 3:end] == b"1.0"
        self.method = parser.get_method()
        # At most what a size can hold: llhttp lets 64 unsigned bits through.
        self.body_nbytes = 0 if self.content_length is None else min(int(self.content_length), LARGEST)
        self.text = text
        return None

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
        elif n == 13 and name.lower() == b"x-deadline-ms":
            self.deadline = value
        elif n == 6 and name.lower() == b"expect":
            self.expects = value.lower() == b"100-continue"

    def on_headers_complete(self):
        self.complete = True
