cdef class TimeLimit:
    cdef readonly object stall      # seconds, None: no limit
    cdef readonly object total      # the same
    cdef readonly object ends       # by monotonic(); None: never
    cpdef object step(self, longest)
