from libc.stdint cimport uint8_t

cdef class Frame:
    cdef readonly list buffers      # flat byte views in the order of the message
    cdef readonly Py_ssize_t nbytes
    cdef int copy_to(self, uint8_t *target) except -1
