from libc.stdint cimport uint8_t

from tensorwire._budget cimport Budget

cdef class Chunk:
    cdef uint8_t *data
    cdef size_t capacity
    cdef readonly Py_ssize_t nbytes
    cdef Budget budget          # what its bytes were taken from, or None

cdef class Held:
    cdef Py_buffer view
    cdef bint held

cpdef Chunk budgeted(Py_ssize_t nbytes, Budget budget)
