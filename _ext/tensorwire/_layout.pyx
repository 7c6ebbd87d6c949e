"""Where the tensors of a message lie: its header and their memory become a frame.

Messages one after the other mostly differ in nothing but the values of their tensors. Then the header of the last one is
that of the next, which needs no writer.
"""

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.memoryview cimport PyMemoryView_FromObject
from libc.string cimport memcmp, memcpy

import numpy as np

from tensorwire._c cimport NPY_USERDEF, TW_STRING
from tensorwire._copies cimport note_sent
from tensorwire._memory cimport Held

cnp.import_array()

cdef enum:
    LARGEST_HEADER = 1 << 16    # bytes of one that is kept


@cython.final
cdef class Layout:
    """A message's header, and what another message must be like to have the same one, but for payloads in it."""

    cdef bint fits(self, tuple fields, list arrays) except -1:
        """Whether a message that says this, with these tensors (as the writer takes them), is laid out so."""
        cdef Py_ssize_t i, ndim, at = 0
        cdef cnp.ndarray array
        if len(arrays) != self.count or fields != self.fields:
            return False
        for i in range(self.count):
            array = arrays[i]
            ndim = cnp.PyArray_NDIM(array)
            if array.descr is not self.dtypes[i] or ndim != self.parts[i].ndim:
                return False
            # An array without dimensions has no place for them.
            if ndim and memcmp(cnp.PyArray_DIMS(array), &self.shapes[at], ndim * sizeof(int64_t)) != 0:
                return False
            at += ndim
        return True

    cdef Frame frame(self, list arrays):
        """The message with other tensors, which fit: views of them, but for those in the header (copies)."""
        cdef bytes header = self.header
        cdef Py_ssize_t size = PyBytes_GET_SIZE(header), at = 0, i
        cdef const char *before = PyBytes_AS_STRING(header)
        cdef char *target
        cdef tw_part *part
        if not self.inlined:
            return assemble(header, self.nbytes, self.parts, arrays)
        header = PyBytes_FromStringAndSize(NULL, size)
        target = PyBytes_AS_STRING(header)
        for i in range(self.count):
            part = &self.parts[i]
            if not part.inlined:
                continue
            memcpy(target + at, before + at, part.header_end - at)
            memcpy(target + part.header_end, cnp.PyArray_DATA(<cnp.ndarray>arrays[i]), part.nbytes)
            at = part.header_end + part.nbytes
            note_sent(part.nbytes)
        memcpy(target + at, before + at, size - at)
        return assemble(header, self.nbytes, self.parts, arrays)


cdef Layout layout_of(tuple fields, list arrays, tw_part *parts, bytes header, uint64_t nbytes):
    """The layout of a message that has been written; None for one that is not worth keeping, or has strings."""
    cdef Layout layout
    cdef cnp.ndarray array
    cdef Py_ssize_t i, ndim, at = 0
    if not 0 < len(arrays) <= MOST_TENSORS or PyBytes_GET_SIZE(header) > LARGEST_HEADER:
        return None
    layout = Layout.__new__(Layout)
    for i in range(len(arrays)):
        array = arrays[i]
        ndim = cnp.PyArray_NDIM(array)
        if parts[i].dtype == TW_STRING or at + ndim > MOST_DIMENSIONS:
            return None
        if ndim:
            memcpy(&layout.shapes[at], cnp.PyArray_DIMS(array), ndim * sizeof(int64_t))
        at += ndim
        layout.parts[i] = parts[i]
        layout.parts[i].shape, layout.parts[i].data = NULL, NULL  # the array's, which is not kept
        layout.inlined |= parts[i].inlined
    layout.fields, layout.count, layout.header, layout.nbytes = fields, len(arrays), header, nbytes
    layout.dtypes = [(<cnp.ndarray>array).descr for array in arrays]
    return layout


cdef memoryview view_of(cnp.ndarray array):
    """A flat read-only byte view that holds the array; dtypes without a buffer format are seen as bytes first."""
    if array.descr.type_num >= NPY_USERDEF:
        array = array.reshape(-1).view(np.uint8)
    cdef Held held = Held(array)
    held.view.readonly = True
    return PyMemoryView_FromObject(held)


cdef Frame assemble(bytes header, uint64_t nbytes, tw_part *parts, list arrays):
    """Header and payloads in the order of the message."""
    cdef Frame frame = Frame.__new__(Frame)
    cdef list buffers = []
    cdef Py_ssize_t size = PyBytes_GET_SIZE(header), start = 0, end, i
    cdef memoryview view = None
    for i in range(len(arrays)):
        if parts[i].inlined or parts[i].dtype == TW_STRING:
            continue
        end = <Py_ssize_t>parts[i].header_end
        if start == 0 and end == size:
            buffers.append(header)
        else:
            if view is None:
                view = PyMemoryView_FromObject(header)
            buffers.append(view[start:end])
        start = end
        buffers.append(view_of(arrays[i]))
    if not buffers:
        buffers.append(header)
    elif start < size:
        buffers.append(view[start:])
    frame.buffers = buffers
    frame.nbytes = <Py_ssize_t>nbytes
    return frame
