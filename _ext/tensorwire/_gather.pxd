from tensorwire._c cimport iovec

cdef size_t list_buffers(list pending, iovec *buffers, size_t most) except? 0
