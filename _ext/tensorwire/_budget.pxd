cdef class Budget:
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t used
    cdef readonly Py_ssize_t waiting
    cdef readonly Py_ssize_t max_waiting
    cdef public object wake
    cdef object queue
    cdef bint woken
    cdef bint charge(self, Py_ssize_t nbytes) noexcept
    cdef void credit(self, Py_ssize_t nbytes) noexcept
