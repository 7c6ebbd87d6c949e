from libc.stdint cimport int64_t

cimport numpy as cnp

from tensorwire._messages cimport Tensors

cdef class Fit:
    cdef Py_ssize_t count
    cdef tuple names
    cdef dict places            # name -> position
    cdef list dtypes            # of each spec; None: any
    cdef int *ranks             # 0: any
    cdef int64_t *sizes         # of all dimensions, one spec after the other; -1: any
    cdef Py_ssize_t *starts     # of each spec's in `sizes`
    cdef bint any
    cdef dict taken(self, Tensors tensors)
    cdef dict made(self, found, asked)
    cdef bint fits(self, cnp.ndarray array, Py_ssize_t i) except -1
