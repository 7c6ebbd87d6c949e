"""The head of one HTTP/1.1 request, taken apart by httptools."""

import httptools

cimport cython


@cython.final
cdef class Head:
    """What a request's head says. Its own methods are httptools' callbacks.

    httptools (llhttp, strict) refuses what could be read in two ways: two Content-Lengths, Content-Length beside
    Transfer-Encoding, folded lines, lengths that are not digits, bare CR or LF.
    """

    cdef str parse(self, bytes text):
        """Read a whole head, up to its empty line; returns what is wrong with it, or None.

        A client that keeps its connection mostly sends the same head again, which then still says the same.
        """
        if text == self.text:
            return None
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
        self.text = text
        return None

    cdef Py_ssize_t body_nbytes(self) noexcept:
        """Content-Length, 0 without one; at most what a size can hold (llhttp lets 64 unsigned bits through)."""
        if self.content_length is None:
            return 0
        return min(int(self.content_length), <Py_ssize_t>0x7FFFFFFFFFFFFFFF)

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
