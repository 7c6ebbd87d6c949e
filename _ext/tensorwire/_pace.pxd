cdef class Pace:
    cdef double grace
    cdef Py_ssize_t rate
    cdef double since           # when the first look was; 0: none yet
    cdef Py_ssize_t moved
    cdef Py_ssize_t left
    cpdef void begin(self) noexcept
    cpdef bint too_slow(self, double now, Py_ssize_t moved) noexcept
    cpdef bint left_too_long(self, double now, Py_ssize_t left) noexcept
