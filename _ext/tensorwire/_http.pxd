from tensorwire._answer cimport Answer, HeadBuffer
from tensorwire._exchange cimport Exchange, Format
from tensorwire._frame cimport Frame
from tensorwire._limit cimport TimeLimit
from tensorwire._spin cimport Spin

cdef class BaseConnection:
    cdef readonly object address
    cdef readonly Format format
    cdef readonly object connect_timeout

cdef class Connection(BaseConnection):
    cdef HeadBuffer buffer
    cdef Spin spin
    cdef object sock                # None: not connected
    cdef int fd                     # of `sock`
    cdef object stall               # what SO_RCVTIMEO is set to, in seconds
    cdef object layer               # TLS, if there is
    cpdef Answer exchange(self, Frame frame, TimeLimit limit, place=*)
    cdef int connect(self, TimeLimit limit) except -1
    cdef int set_stall(self, stall) except -1
