from tensorwire._frame cimport Frame
from tensorwire._messages cimport Response

cdef Frame encode_response(Response response, Py_ssize_t inlined)
