"""The head of an HTTP answer on the fast path."""

import time
from email.utils import formatdate
from http import HTTPStatus

cdef enum:
    MOST_HEADS = 64

cdef dict REASONS = {int(status): status.phrase.encode() for status in HTTPStatus}
cdef bytes CLOSE = b"connection: close\r\n"
cdef bytes KEEP_ALIVE = b"connection: keep-alive\r\n"  # HTTP/1.0 clients want to be told
cdef bytes RETRY = b"retry-after: 1\r\n"  # seconds

cdef long long second = -1
cdef bytes date = b""
# Of this second; a server's answers are mostly of one size, and then the last head is the next one, too.
cdef dict heads = {}
cdef bytes last = None
cdef int last_status = 0
cdef Py_ssize_t last_nbytes = 0
cdef int last_field = 0


cdef int refresh_date() except -1:
    """Make the date field anew if the second has changed; called once a second and connection, not once an answer."""
    global second, date, last
    cdef long long now = int(time.time())
    if now != second:
        heads.clear()
        last = None
        second = now
        date = b"date: " + formatdate(now, usegmt=True).encode() + b"\r\n"
    return 0


cdef bytes response_head(int status, Py_ssize_t nbytes, bint keep_alive, bint old_http):
    """Status line and fields for a body of ``nbytes``. A 503 says when to try again."""
    global last, last_status, last_nbytes, last_field
    cdef int field = (1 + old_http) if keep_alive else 0
    if last is not None and status == last_status and nbytes == last_nbytes and field == last_field:
        return last
    key = (status, nbytes, field)
    head = heads.get(key)
    if head is None:
        if len(heads) >= MOST_HEADS:
            heads.clear()
        head = heads[key] = make_head(status, nbytes, (CLOSE, b"", KEEP_ALIVE)[field])
    last, last_status, last_nbytes, last_field = head, status, nbytes, field
    return head


cdef bytes make_head(int status, Py_ssize_t nbytes, bytes connection):
    return b"HTTP/1.1 %d %b\r\ncontent-type: application/octet-stream\r\ncontent-length: %d\r\n%b%b%b\r\n" % (
        status, REASONS.get(status, b"Unknown"), nbytes, date, connection, RETRY if status == 503 else b"")
