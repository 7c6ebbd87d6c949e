"""Frame: an encoded message, ready for a vectored write."""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uintptr_t
from libc.string cimport memcpy

from tensorwire._c cimport MADV_HUGEPAGE, madvise

from io import RawIOBase

cdef enum:
    LARGE_COPY = 1 << 20        # from here on other threads may run during the copy
    HUGE_NBYTES = 1 << 22       # below, there may be no whole huge page in a block
    PAGE = 1 << 12


cdef int write_all(file, part) except -1:
    """An unbuffered file may take less than it was given: a system call writes at most 2 GiB."""
    rest = memoryview(part)
    while rest.nbytes:
        taken = file.write(rest)
        if taken is None and not isinstance(file, RawIOBase):
            return 0  # a writer that says nothing has taken it all
        if not taken:
            raise BlockingIOError(f"the file takes no more; {rest.nbytes} bytes are left of a part of the message")
        rest = rest[taken:]
    return 0


@cython.final
cdef class Frame:
    """An encoded message: header bytes, and views of the arrays' own memory.

    ``buffers`` is what a vectored write takes, in order: flat read-only byte views (bytes or memoryview). Tensors of
    at most 512 bytes, or ``encode``'s ``inline_nbytes``, and strings, are copied into the header; larger ones are views,
    so do not write to those arrays before the frame is sent.
    """

    def __len__(self):
        return self.nbytes

    def __bytes__(self):
        cdef bytes whole
        cdef uintptr_t start, end
        if self.nbytes < HUGE_NBYTES:
            return b"".join(self.buffers)
        whole = PyBytes_FromStringAndSize(NULL, self.nbytes)
        # Fresh memory costs more than the copy into it; half as much in huge pages. Only whole pages can be advised.
        start = (<uintptr_t>PyBytes_AS_STRING(whole) + PAGE - 1) & ~<uintptr_t>(PAGE - 1)
        end = (<uintptr_t>PyBytes_AS_STRING(whole) + self.nbytes) & ~<uintptr_t>(PAGE - 1)
        madvise(<void *>start, end - start, MADV_HUGEPAGE)
        self.copy_to(<uint8_t *>PyBytes_AS_STRING(whole))
        return whole

    def write_into(self, buf, /):
        """Copy the whole message to the start of a writable buffer; returns the bytes written.

        Raises ValueError when the buffer is too small.
        """
        cdef Py_buffer target
        PyObject_GetBuffer(buf, &target, PyBUF_WRITABLE)
        try:
            if target.len < self.nbytes:
                raise ValueError(f"the message has {self.nbytes} bytes, the buffer only {target.len}")
            self.copy_to(<uint8_t *>target.buf)
        finally:
            PyBuffer_Release(&target)
        return self.nbytes

    def tofile(self, file, /):
        """Write the whole message to a path or a binary file object, payloads straight from the arrays' memory;
        returns the bytes written. Raises what the file does.
        """
        if hasattr(file, "write"):
            for part in self.buffers:
                write_all(file, part)
        else:
            with open(file, "wb", buffering=0) as opened:
                self.tofile(opened)
        return self.nbytes

    cdef int copy_to(self, uint8_t *target) except -1:
        cdef Py_buffer source
        cdef Py_ssize_t room = self.nbytes
        for part in self.buffers:
            PyObject_GetBuffer(part, &source, PyBUF_SIMPLE)
            if source.len > room:  # the list is the caller's as well
                PyBuffer_Release(&source)
                raise ValueError("frame.buffers was changed: it has more bytes than the message")
            room -= source.len
            if source.len >= LARGE_COPY:
                with nogil:
                    memcpy(target, source.buf, source.len)
            else:
                memcpy(target, source.buf, source.len)
            target += source.len
            PyBuffer_Release(&source)
        if room:
            raise ValueError(f"frame.buffers was changed: it lacks {room} bytes of the message")
        return 0

    def __repr__(self):
        return f"<Frame of {self.nbytes:,} bytes in {len(self.buffers)} buffers>"
