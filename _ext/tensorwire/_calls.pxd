from tensorwire._idle cimport IdleConnections
from tensorwire._limit cimport TimeLimit
from tensorwire._result cimport Results

cdef class Calls:
    cdef readonly IdleConnections idle
    cdef readonly Results results
    cdef object timeout, total_timeout
    cdef TimeLimit endless          # for calls that may last as long as they will
    cdef int retries
    cpdef TimeLimit limit(self, message)
    cdef object call(self, message, read, place)
