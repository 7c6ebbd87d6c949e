from libc.stdint cimport uint8_t

from tensorwire._budget cimport Budget

ctypedef int (*lock_pages)(void *data, size_t nbytes, unsigned int flags) noexcept nogil
ctypedef int (*unlock_pages)(void *data) noexcept nogil

cdef class Chunk:
    cdef uint8_t *data
    cdef size_t capacity
    cdef unlock_pages unlock    # NULL: its pages are not locked
    cdef readonly Py_ssize_t nbytes
    cdef public Py_ssize_t copied   # of these, the first ones that came by a copy and are not counted yet
    cdef Budget budget          # what its bytes were taken from, or None

cdef class Held:
    cdef Py_buffer view
    cdef bint held

cpdef Chunk budgeted(Py_ssize_t nbytes, Budget budget)

cdef double monotonic() noexcept nogil
