cdef int wait(int fd, short events, int timeout) except -1
cdef int failed() except -1
cpdef bint readable(int fd) except -1
