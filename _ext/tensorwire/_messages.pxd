from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_SET_ITEM
from libc.stdint cimport int64_t

cdef class Tensors:
    cdef readonly tuple names
    cdef readonly tuple arrays
    cdef dict places            # name -> position, made at the first look-up by name
    cdef Py_ssize_t place(self, str name) except -1

cdef class TensorSpec:
    cdef readonly str name
    cdef readonly object dtype
    cdef readonly tuple shape
    cdef readonly str description

cdef class Status:
    cdef readonly int64_t code
    cdef readonly str message

cdef class Request:
    cdef readonly Tensors inputs
    cdef readonly tuple outputs
    cdef readonly str config
    cdef readonly str model
    cdef readonly int64_t version
    cdef readonly str label
    cdef readonly str signature
    cdef readonly str id
    cdef readonly int64_t deadline_ms

cdef class MetadataRequest:
    pass

cdef class Response:
    cdef readonly Tensors outputs
    cdef readonly tuple errors

cdef class Metadata:
    cdef readonly str name
    cdef readonly str version
    cdef readonly str server
    cdef readonly str description
    cdef readonly tuple inputs
    cdef readonly tuple outputs

cdef Tensors make_tensors(tuple names, tuple arrays)
cdef Response make_response(dict outputs)

cdef inline void fill(tuple items, Py_ssize_t i, object value):
    """Put a value into a tuple that was just made, where nothing is yet."""
    Py_INCREF(value)
    PyTuple_SET_ITEM(items, i, value)
