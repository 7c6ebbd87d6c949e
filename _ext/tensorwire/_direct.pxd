from tensorwire._fit cimport Fit
from tensorwire._messages cimport Request
from tensorwire._tally cimport Tally

cdef class Direct:
    cdef object run
    cdef str signature
    cdef Fit takes
    cdef Fit makes
    cdef tuple all_outputs
    cdef object asked
    cdef object results
    cdef object failed
    cdef Tally tally
    cdef object answer(self, Request request, double received)

cdef class Directs:
    cdef readonly dict models
    cdef public bint open
    cdef readonly Py_ssize_t requests
    cdef readonly Py_ssize_t failures
    cpdef object answer(self, Request request, double received)
