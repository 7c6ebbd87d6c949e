"""What a connection of a server sends."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

from tensorwire._c cimport MSG_DONTWAIT, MSG_NOSIGNAL, send
from tensorwire._copies cimport note_sent
from tensorwire._frame cimport Frame

cdef enum:
    JOINED_NBYTES = 1 << 14     # answers up to here go out as one string: cheaper than a vectored write


@cython.final
cdef class Outgoing:
    """The way out through a transport, or past it: small answers go to the system at once where nothing waits before
    them, which a loop would do a turn later. What the system does not take is the transport's to keep.
    """

    def __init__(self, transport):
        self.transport = transport
        sock = transport.get_extra_info("socket")
        self.fd = -1 if sock is None or transport.get_extra_info("sslcontext") is not None else sock.fileno()

    cdef int send(self, bytes head, Frame frame) except -1:
        """A head and the frame's buffers, which are kept until they are written."""
        cdef list buffers = frame.buffers
        if frame.nbytes > JOINED_NBYTES:
            self.transport.writelines([head, *buffers])
            return 0
        note_sent(frame.nbytes)
        return self.write(head + buffers[0] if len(buffers) == 1 else b"".join([head, *buffers]))

    cdef int write(self, bytes data) except -1:
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), sent = 0
        # A transport that closes may have given its descriptor back already.
        if self.fd >= 0 and not self.transport.is_closing() and not self.transport.get_write_buffer_size():
            sent = send(self.fd, PyBytes_AS_STRING(data), size, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < size:
            self.transport.write(data[sent:] if sent > 0 else data)  # an error will be the transport's, too
        return 0
