"""Waiting for a descriptor, and what a system call's failure means."""

from cpython.exc cimport PyErr_CheckSignals, PyErr_SetFromErrno
from libc.errno cimport EINTR, errno

from tensorwire._c cimport POLLIN, poll, pollfd


cdef int wait(int fd, short events, int timeout) except -1:
    """Which of the events are there within so many milliseconds (errors among them; -1: for ever); 0: none."""
    cdef pollfd watched
    cdef int count
    watched.fd, watched.events = fd, events
    while True:
        watched.revents = 0
        if timeout:
            with nogil:
                count = poll(&watched, 1, timeout)
        else:
            count = poll(&watched, 1, 0)
        if count >= 0:
            return watched.revents
        failed()


cdef int failed() except -1:
    """Raise what the last system call failed with; returns when a signal interrupted it, which has been handled."""
    if errno != EINTR:
        PyErr_SetFromErrno(OSError)
        return -1
    PyErr_CheckSignals()
    return 0


cpdef bint readable(int fd) except -1:
    """Whether there is something to read, the end included."""
    return wait(fd, POLLIN, 0) != 0
