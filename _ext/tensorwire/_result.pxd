from tensorwire._answer cimport Answer
from tensorwire._messages cimport Metadata, Request, Response, Tensors

cdef class Results:
    cdef str server
    cdef tuple names                # of the default model's outputs, as far as known
    cpdef Response response(self, Answer answer, read=*)
    cpdef Metadata metadata(self, Answer answer)
    cpdef Tensors named(self, Request request, Tensors tensors)
