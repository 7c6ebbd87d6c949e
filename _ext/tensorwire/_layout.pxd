from libc.stdint cimport int64_t, uint64_t

from tensorwire._c cimport tw_part
from tensorwire._frame cimport Frame

cdef enum:
    MOST_TENSORS = 8
    MOST_DIMENSIONS = 32

cdef class Layout:
    cdef tuple fields           # what the message says beside its tensors
    cdef list dtypes
    cdef int64_t[MOST_DIMENSIONS] shapes
    cdef tw_part[MOST_TENSORS] parts
    cdef Py_ssize_t count
    cdef bint inlined           # payloads are in the header
    cdef bytes header
    cdef uint64_t nbytes
    cdef bint fits(self, tuple fields, list arrays) except -1
    cdef Frame frame(self, list arrays)

cdef Frame assemble(bytes header, uint64_t nbytes, tw_part *parts, list arrays)
cdef Layout layout_of(tuple fields, list arrays, tw_part *parts, bytes header, uint64_t nbytes)
