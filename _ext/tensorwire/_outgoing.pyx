"""What a connection of a server sends."""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.string cimport memset

from tensorwire._c cimport MSG_DONTWAIT, MSG_NOSIGNAL, iovec, msghdr, send, sendmsg
from tensorwire._copies cimport note_sent
from tensorwire._frame cimport Frame
from tensorwire._gather cimport list_buffers

cdef enum:
    SMALL_NBYTES = 1 << 14      # answers up to here go out at once, or as one string: cheaper than the loop's vectored write
    SMALL_COUNT = 32            # buffers of such an answer that are sent at once


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
        cdef list buffers = [head, *frame.buffers]
        cdef iovec places[SMALL_COUNT]
        cdef msghdr message
        cdef Py_ssize_t sent = 0
        if frame.nbytes > SMALL_NBYTES:
            self.transport.writelines(buffers)
            return 0
        if self.free():
            memset(&message, 0, sizeof(message))
            message.msg_iov = places
            message.msg_iovlen = list_buffers(buffers, places, SMALL_COUNT)
            sent = sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < PyBytes_GET_SIZE(head) + frame.nbytes:
            note_sent(frame.nbytes)
            self.rest(b"".join(buffers), sent)
        return 0

    cdef int write(self, bytes data) except -1:
        cdef Py_ssize_t sent = 0
        if self.free():
            sent = send(self.fd, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), MSG_DONTWAIT | MSG_NOSIGNAL)
        if sent < PyBytes_GET_SIZE(data):
            self.rest(data, sent)
        return 0

    cdef bint free(self) except -1:
        """Nothing waits before what is sent now. A transport that closes may have given its descriptor back already."""
        return self.fd >= 0 and not self.transport.is_closing() and not self.transport.get_write_buffer_size()

    cdef int rest(self, bytes data, Py_ssize_t sent) except -1:
        """So many bytes of this were taken; the rest, and an error, is the transport's."""
        self.transport.write(data[sent:] if sent > 0 else data)
