cdef enum:
    KEPT = 1024                 # requests whose times are kept; a power of two

cdef class Tally:
    cdef readonly Py_ssize_t requests
    cdef readonly Py_ssize_t failures
    cdef readonly double last
    cdef double[KEPT] recent
    cpdef void add(self, double began, double now, bint failed) noexcept
