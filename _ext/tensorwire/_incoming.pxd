cpdef bint has_more(object transport) except -1

cdef class Incoming:
    cdef bytearray block        # never resized: the loop holds an export of it while it reads
    cdef Py_ssize_t size        # of the block
    cdef Py_ssize_t filled      # bytes of it in use
    cdef Py_ssize_t scanned     # of these, searched for the end of a head
    cdef char *start(self) noexcept
    cdef object space(self, Py_ssize_t end)
    cdef Py_ssize_t head_end(self) noexcept
    cdef void consume(self, Py_ssize_t n) noexcept
    cdef Py_ssize_t whole_requests(self, Py_ssize_t at) except -1
