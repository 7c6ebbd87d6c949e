from libc.stdint cimport uint8_t

cdef class Chunk:
    cdef uint8_t *data
    cdef size_t capacity
    cdef readonly Py_ssize_t nbytes

cdef class Held:
    cdef Py_buffer view
    cdef bint held
