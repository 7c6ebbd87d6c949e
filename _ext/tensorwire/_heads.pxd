cdef int refresh_date() except -1
cdef bytes response_head(int status, Py_ssize_t nbytes, bint keep_alive, bint old_http)
