cdef class Head:
    cdef bytes text             # of the last head, if nothing was wrong with it
    cdef bytes method
    cdef bytes url
    cdef bytes content_type
    cdef bytes deadline
    cdef list fields
    cdef bint chunked
    cdef bint expects
    cdef bint keep_alive
    cdef bint old_http
    cdef bint complete
    cdef bytes content_length
    cdef Py_ssize_t body_nbytes     # Content-Length, 0 without one
    cdef Py_ssize_t repeated(self, const char *start, Py_ssize_t filled) noexcept
    cdef Py_ssize_t read_end(self, Py_ssize_t filled, Py_ssize_t room) noexcept
    cdef str parse(self, bytes text)
