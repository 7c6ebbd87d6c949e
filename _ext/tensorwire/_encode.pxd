from tensorwire._frame cimport Frame
from tensorwire._messages cimport Response

cdef enum:
    # A payload that is copied costs its memcpy; one that is a view costs a hold, a memoryview and an iovec entry,
    # about as much as copying half a kilobyte.
    INLINE_NBYTES = 512

cdef Frame encoded(object message, Py_ssize_t inlined)
cdef Frame encode_response(Response response, Py_ssize_t inlined)
