cdef void note_received(Py_ssize_t nbytes) noexcept
cdef void note_sent(Py_ssize_t nbytes) noexcept
