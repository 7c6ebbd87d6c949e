"""Bytes that lie in several places, for one system call."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_CheckExact, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_GET_BUFFER


cdef size_t list_buffers(list pending, iovec *buffers, size_t most) except? 0:
    """Where the first buffers lie (bytes or memoryviews), which the list keeps there; returns how many, at most so many."""
    cdef size_t count = 0
    for buffer in pending:
        if count == most:
            break
        if PyBytes_CheckExact(buffer):
            buffers[count].iov_base, buffers[count].iov_len = PyBytes_AS_STRING(buffer), PyBytes_GET_SIZE(buffer)
        else:
            buffers[count].iov_base = PyMemoryView_GET_BUFFER(buffer).buf
            buffers[count].iov_len = PyMemoryView_GET_BUFFER(buffer).len
        count += 1
    return count
