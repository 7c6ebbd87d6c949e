from tensorwire._frame cimport Frame
from tensorwire._memory cimport Chunk

cdef str name_of(object peer)

cdef class Exchange:
    cdef readonly bytes method
    cdef readonly bytes path
    cdef readonly Chunk body
    cdef readonly Py_ssize_t body_nbytes
    cdef readonly bytes deadline
    cdef readonly double started
    cdef readonly bint abandoned
    cdef public str model
    cdef list fields
    cdef Link link

cdef class Link:
    cdef Exchange exchange          # the request being received or answered
    cdef object transport           # None while there is none
    cdef int answer(self, int status, Frame frame) except -1
    cdef str peer(self)
