# cython: nonecheck=True
"""One blocking HTTP/1.1 exchange at a time over one kept-alive socket.

Payloads are sent from where they are, and received to where they stay.
"""

cimport cython

from socket import SO_RCVTIMEO, SOL_SOCKET
from time import monotonic

from tensorwire._answer cimport Answer, HeadBuffer
from tensorwire._exchange cimport Exchange, Format
from tensorwire._frame cimport Frame
from tensorwire._limit cimport TimeLimit
from tensorwire._plain cimport run
from tensorwire._poll cimport readable
from tensorwire._spin cimport Spin

from tensorwire._address import connection_lost, reset_when_closed, timeval
from tensorwire.errors import DeadlineExceeded, TensorwireError

_STALE_SECONDS = 1.0  # a reused connection that fails sooner than this was closed while it was idle


cdef class BaseConnection:
    """BaseConnection(address, head, *, connect_timeout, max_nbytes=0x7fffffff)\n--\n\nWhat a connection is, blocking or not: an address, the format of its exchanges, and how they fail.

    ``head`` is the request head up to its Content-Length value, ``connect_timeout`` is in seconds (None: no
    limit), ``max_nbytes`` bounds the body of an answer.
    """

    def __init__(self, address not None, bytes head not None, *, connect_timeout, Py_ssize_t max_nbytes=0x7FFFFFFF):
        self.address = address
        self.connect_timeout = connect_timeout
        self.format = Format(address.text, head, max_nbytes)

    def close(self):
        raise NotImplementedError

    def abort(self):
        """Break the connection if there is one, so that the server does not work for an answer that nobody reads."""
        raise NotImplementedError

    def failed(self, error, Exchange exchange not None, TimeLimit limit not None, fresh):
        """Break the connection, and raise what a failed exchange means, or return when it may be sent once more.

        ``fresh`` is when an exchange over a reused connection began (time.monotonic()), else None.
        """
        self.abort()  # Whatever is left of this answer must not be read as the next one.
        if isinstance(error, TensorwireError) or not isinstance(error, OSError):
            raise error
        server = self.format.server
        if isinstance(error, (BlockingIOError, TimeoutError)):
            raise DeadlineExceeded(f"{server}: {limit.passed()}: {exchange.progress()}") from error
        if fresh is None or exchange.begun or monotonic() - fresh > _STALE_SECONDS:
            hint = self.address.unanswered() if fresh is None and not exchange.begun else ""
            text = f"{server}: {error.strerror or error}: {exchange.progress()}{hint}"
            raise connection_lost(text, unanswered=not exchange.begun) from error


@cython.final
cdef class Connection(BaseConnection):
    """Connection(address, head, *, connect_timeout, max_nbytes=0x7fffffff)\n--\n\nA connection to one address, opened when it is needed and kept while the server keeps it.

    Not for two threads at once.
    """

    def __cinit__(self, *arguments, **options):
        self.buffer = HeadBuffer()
        self.spin = Spin()

    def close(self):
        """Close the socket if there is one; the next exchange opens another."""
        sock, self.sock = self.sock, None
        if sock is not None:
            sock.close()

    def abort(self):
        if self.sock is not None:
            reset_when_closed(self.sock)
        self.close()

    cpdef Answer exchange(self, Frame frame, TimeLimit limit, place=None):
        """Send one request and receive its answer, whatever its status. The body is not a copy of anything.

        When a reused connection turns out to have been closed while it was idle, the request is sent once
        more over a new one. Raises DeadlineExceeded, ConnectionLost, DecodeError (not HTTP/1.1) and
        LimitError; the connection is closed then.
        """
        cdef Exchange exchange
        cdef Answer answer
        if self.sock is not None and readable(self.fd):
            self.close()  # Closed while idle; or bytes nobody asked for, which must not pass for an answer.
        fresh = None if self.sock is None else monotonic()
        while True:
            exchange = Exchange(self.format, frame, self.buffer, place)
            try:
                if self.sock is None:
                    self.connect(limit)
                elif limit.stall is not self.stall and self.layer is None:
                    self.set_stall(limit.stall)
                answer = run(exchange, self.fd, limit, self.layer, self.spin)
                if not exchange.keep:
                    self.close()
                return answer
            except BaseException as error:
                self.failed(error, exchange, limit, fresh)
                fresh = None

    cdef int connect(self, TimeLimit limit) except -1:
        sock = self.address.connect(limit.step(self.connect_timeout))
        # OpenSSL would retry on SO_RCVTIMEO for ever, so TLS takes settimeout().
        self.layer = Tls(sock) if self.address.tls else None
        self.fd = sock.fileno()
        self.sock = sock
        return 0 if self.layer is not None else self.set_stall(limit.stall)

    cdef int set_stall(self, stall) except -1:
        # It spares the poll() that settimeout() puts before every recv().
        self.sock.setsockopt(SOL_SOCKET, SO_RCVTIMEO, timeval(stall))
        self.stall = stall
        return 0


@cython.final
cdef class Tls:
    """Tls(sock)\n--\n\nWhat sends and receives over TLS, by Python's own socket."""

    cdef object sock

    def __init__(self, sock):
        self.sock = sock

    def send(self, Exchange exchange not None, TimeLimit limit not None):
        for buffer in exchange.pending:
            self.sock.settimeout(limit.step(limit.stall))
            self.sock.sendall(buffer)
            exchange.sent(len(buffer))

    def receive(self, Exchange exchange not None, TimeLimit limit not None):
        self.sock.settimeout(limit.step(limit.stall))
        count = self.sock.recv_into(exchange.target())
        if count:
            exchange.received(count)
        else:
            exchange.ended()
