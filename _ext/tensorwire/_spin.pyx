"""Looking for an answer for a moment before sleeping until it comes.

A thread that sleeps has to be woken: that takes the waker time, and the sleeper longer than a small answer takes to be
made. bench/NOTES.md has the measurements.
"""

cimport cython
from libc.errno cimport EAGAIN, errno

from tensorwire._c cimport MSG_DONTWAIT, recv, sched_yield
from tensorwire._memory cimport Chunk, monotonic
from tensorwire._poll cimport failed

cdef enum:
    MAX_MISSES = 8

cdef double LOOK = 50e-6            # seconds


@cython.final
cdef class Spin:
    """Spin()\n--\n\nLooks for the answers of one connection as long as that mostly helps.

    After misses in a row 1, 3, 7, ... 255 answers are not looked for, so that little time is lost on a server that takes
    its time. The core goes to whoever wants it meanwhile.
    """

    cdef Py_ssize_t receive(self, int fd, char *data, Py_ssize_t room) noexcept:
        """As recv(); LATER when nothing has come soon."""
        cdef Py_ssize_t count
        cdef double end
        if self.blind:
            self.blind -= 1
            return LATER
        with nogil:
            end = monotonic() + LOOK
            count = recv(fd, data, room, MSG_DONTWAIT)
            while count < 0 and errno == EAGAIN and monotonic() < end:
                sched_yield()
                count = recv(fd, data, room, MSG_DONTWAIT)
        if count >= 0 or errno != EAGAIN:
            self.misses = 0
            return count
        self.misses = min(self.misses + 1, MAX_MISSES)
        self.blind = (1 << self.misses) - 1
        return LATER

    def receive_into(self, int fd, Chunk room not None):
        """How many bytes have come soon, 0 for the end of the stream; None when nothing has. Raises OSError."""
        count = self.receive(fd, <char *>room.data, room.nbytes)
        if count == -1:
            failed()
        return None if count == LATER else count
