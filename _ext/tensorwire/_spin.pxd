cdef enum:
    LATER = -2

cdef class Spin:
    cdef int misses                 # in a row
    cdef int blind                  # answers that are not looked for before the next look
    cdef Py_ssize_t receive(self, int fd, char *data, Py_ssize_t room) noexcept
