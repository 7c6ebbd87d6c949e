# cython: nonecheck=True
"""An exchange over a blocking socket. Over a plain one no object of Python's stands between it and the system.

SO_RCVTIMEO is the caller's to set, to as long as the exchange may stand still.
"""

from libc.errno cimport EAGAIN, errno
from libc.string cimport memset

from tensorwire._answer cimport Answer
from tensorwire._c cimport (
    MSG_DONTWAIT, MSG_NOSIGNAL, MSG_WAITALL, POLLIN, POLLOUT, iovec, msghdr, recv, sendmsg,
)
from tensorwire._exchange cimport Exchange
from tensorwire._gather cimport list_buffers
from tensorwire._limit cimport TimeLimit
from tensorwire._poll cimport failed, readable, wait
from tensorwire._spin cimport LATER, Spin

cdef enum:
    IOV_MAX = 1024              # Linux' and macOS' limit of buffers in one sendmsg


cdef Answer run(Exchange exchange, int fd, TimeLimit limit, layer, Spin spin):
    """Send the request and receive the answer, within a TimeLimit. Raises OSError, DecodeError and LimitError.

    When the request can't be sent to its end, the server may have answered before it stopped reading: then the answer
    is what counts. ``layer`` sends and receives where there is one between the exchange and the socket; elsewhere
    ``spin`` looks for the answer first.
    """
    failure = None
    while exchange.answer is None:
        if exchange.pending and failure is None and not exchange.listening:
            try:
                if layer is None:
                    send(exchange, fd, limit)
                else:
                    layer.send(exchange, limit)
            except OSError as error:
                if isinstance(error, TimeoutError) and not readable(fd):
                    raise
                failure = error
        try:
            if layer is None:
                receive(exchange, fd, limit, spin)
            else:
                layer.receive(exchange, limit)
        except OSError:
            if failure is not None and not exchange.begun:
                raise failure from None
            raise
    if failure is not None:
        exchange.keep = False
    return exchange.answer


cdef int receive(Exchange exchange, int fd, TimeLimit limit, Spin spin) except -1:
    """Wait for bytes of the answer and take them in.

    With MSG_WAITALL one call receives all that is left; when SO_RCVTIMEO passes it returns what came, and the next one
    fails.
    """
    cdef bint bounded = limit.ends is not None
    cdef int flags = MSG_WAITALL if exchange.whole and not bounded else 0
    cdef Py_ssize_t room, count
    cdef char *data = exchange.room(&room)
    if not exchange.begun:
        count = spin.receive(fd, data, room)
        if count >= 0:
            return taken(exchange, count)
        if count != LATER:
            failed()
    if bounded and not wait(fd, POLLIN, milliseconds(limit)):
        raise TimeoutError
    while True:
        with nogil:
            count = recv(fd, data, room, flags)
        if count >= 0:
            return taken(exchange, count)
        failed()


cdef int taken(Exchange exchange, Py_ssize_t count) except -1:
    return exchange.received(count) if count else exchange.ended()


cdef int send(Exchange exchange, int fd, TimeLimit limit) except -1:
    """Send until nothing is pending or the server begins to answer."""
    cdef iovec buffers[IOV_MAX]
    cdef msghdr message
    cdef Py_ssize_t count
    cdef int events
    memset(&message, 0, sizeof(message))
    message.msg_iov = buffers
    while True:
        message.msg_iovlen = list_buffers(exchange.pending, buffers, IOV_MAX)
        with nogil:
            count = sendmsg(fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if count < 0:
            if errno != EAGAIN:
                failed()
                continue
        elif exchange.sent(count):
            return 0
        events = wait(fd, POLLIN | POLLOUT, milliseconds(limit))
        if not events:
            raise TimeoutError
        if events & POLLIN:
            return 0


cdef int milliseconds(TimeLimit limit) except? -1:
    """As long as nothing may happen from now on; -1: for ever. Raises TimeoutError when the limit has passed."""
    stall = limit.step(limit.stall)
    return -1 if stall is None else min(max(1, round(stall * 1000)), 0x7FFFFFFF)
