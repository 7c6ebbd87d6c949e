cdef class IdleConnections:
    cdef object open                # makes a connection
    cdef str owner
    cdef list items
    cdef Py_ssize_t most            # 0: none are kept any more
    cdef bint closed
    cdef int pid                    # of the process whose sockets they are
    cpdef object take(self)
    cpdef int give_back(self, connection) except -1
    cpdef list retire(self)
