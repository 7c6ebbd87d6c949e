cimport numpy as cnp

cdef int wire_type(cnp.dtype dtype) except -2
cdef cnp.dtype numpy_dtype(int wire)
cdef str type_name(int wire)
