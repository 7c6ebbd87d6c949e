from tensorwire._frame cimport Frame

cdef class Outgoing:
    cdef object transport
    cdef int fd                 # -1: what is written must go through the transport
    cdef int send(self, bytes head, Frame frame) except -1
    cdef int write(self, bytes data) except -1
    cdef bint free(self) except -1
    cdef int rest(self, bytes data, Py_ssize_t sent) except -1
