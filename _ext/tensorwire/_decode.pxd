cdef object decoded(buf, type expected)
