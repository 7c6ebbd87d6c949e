cimport numpy as cnp

cdef cnp.ndarray from_dlpack(value)
