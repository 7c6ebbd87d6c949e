"""DLPack, in and out, for every dtype of the wire: numpy's own refuses bfloat16, float8 and read-only arrays.

Protocol: https://dmlc.github.io/dlpack/latest/python_spec.html (the unversioned capsule, which all producers give).
"""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.string cimport memset

import numpy as np

from tensorwire._c cimport (
    TW_DL_CPU, TW_DL_CUDA_HOST, TW_MAX_NDIM, TW_NULL_TYPE, tw_dl_managed, tw_dl_tensor, tw_from_dl, tw_itemsize,
    tw_new_strided, tw_to_dl,
)
from tensorwire._dtypes cimport numpy_dtype, wire_type

cnp.import_array()

cdef const char *FRESH = "dltensor"
cdef const char *TAKEN = "used_dltensor"  # the consumer's promise to call the deleter


@cython.final
cdef class _Lent:
    """Another framework's tensor, given back when the last array over it is gone."""
    cdef tw_dl_managed *managed

    def __dealloc__(self):
        if self.managed != NULL and self.managed.deleter != NULL:
            self.managed.deleter(self.managed)


cdef cnp.ndarray from_dlpack(value):
    """An array over the memory of a tensor on the CPU (view). Raises TypeError for other devices and dtypes."""
    device = value.__dlpack_device__()
    if device[0] not in (TW_DL_CPU, TW_DL_CUDA_HOST):
        raise TypeError(f"its memory is on DLPack device {tuple(device)}, not on the CPU; bring it there first")
    capsule = value.__dlpack__()
    cdef _Lent lent = _Lent.__new__(_Lent)
    lent.managed = <tw_dl_managed *>PyCapsule_GetPointer(capsule, FRESH)
    PyCapsule_SetName(capsule, TAKEN)
    cdef tw_dl_tensor *tensor = &lent.managed.tensor
    cdef int64_t[TW_MAX_NDIM] strides
    cdef int wire = tw_from_dl(tensor.dtype), i
    if wire == TW_NULL_TYPE:
        raise TypeError(f"the wire has no type for DLPack's code {tensor.dtype.code}, {tensor.dtype.bits} bits, "
                        f"{tensor.dtype.lanes} lanes")
    if not 0 <= tensor.ndim <= TW_MAX_NDIM:
        raise TypeError(f"{tensor.ndim} dimensions are more than numpy's {TW_MAX_NDIM}")
    if tensor.data == NULL:  # only an empty tensor may have no memory
        return np.zeros([tensor.shape[i] for i in range(tensor.ndim)], numpy_dtype(wire))
    if tensor.strides != NULL:
        for i in range(tensor.ndim):
            strides[i] = tensor.strides[i] * <int64_t>tw_itemsize(<unsigned char>wire)
    return tw_new_strided(numpy_dtype(wire), tensor.ndim, tensor.shape, strides if tensor.strides != NULL else NULL,
                          <char *>tensor.data + tensor.byte_offset, True, lent)


cdef void release(tw_dl_managed *managed) noexcept with gil:
    """The consumer is done: the array's reference that the tensor held is dropped."""
    Py_DECREF(<object>managed.context)
    PyMem_Free(managed)


cdef void drop_unused(object capsule) noexcept:
    if PyCapsule_IsValid(capsule, FRESH):
        release(<tw_dl_managed *>PyCapsule_GetPointer(capsule, FRESH))


@cython.final
cdef class Tensor:
    """Tensor(array)\n--\n\nAn array as a DLPack tensor, for frameworks to take without a copy (view).

        torch.from_dlpack(tw.Tensor(request.inputs["x"]))

    Unlike numpy's own export this knows bfloat16 and float8, and lends read-only memory too: the consumer must not
    write to it then. ``array`` is the ndarray. Raises TypeError when the wire has no type for its dtype (strings).
    """

    cdef readonly cnp.ndarray array
    cdef int wire

    def __init__(self, array):
        self.array = array if isinstance(array, np.ndarray) else np.asarray(array)
        if not self.array.dtype.isnative:
            raise TypeError(f"DLPack has no byte order; {self.array.dtype} is not this machine's own")
        self.wire = wire_type(self.array.descr)
        if self.wire < 0:
            raise TypeError(f"DLPack has no type for {self.array.dtype}")

    def __array__(self, dtype=None, copy=None):
        return np.array(self.array, dtype=dtype, copy=copy)

    def __dlpack_device__(self):
        return TW_DL_CPU, 0

    def __dlpack__(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        if dl_device is not None and tuple(dl_device) != (TW_DL_CPU, 0):
            raise BufferError(f"the tensor is on the CPU, not on DLPack device {tuple(dl_device)}")
        if self.array is None:
            raise TypeError("this Tensor was made without an array")
        cdef cnp.ndarray array = self.array.copy() if copy else self.array
        cdef int ndim = cnp.PyArray_NDIM(array), i
        cdef int64_t size = cnp.PyArray_ITEMSIZE(array)
        for i in range(ndim):
            if cnp.PyArray_STRIDE(array, i) % size:
                raise BufferError("strides that are no multiple of an element cannot be lent by DLPack")
        cdef tw_dl_managed *managed = <tw_dl_managed *>PyMem_Malloc(sizeof(tw_dl_managed) + 16 * ndim)
        if managed == NULL:
            raise MemoryError
        memset(managed, 0, sizeof(tw_dl_managed))
        managed.tensor.data = cnp.PyArray_DATA(array)
        managed.tensor.device.device_type = TW_DL_CPU
        managed.tensor.ndim = ndim
        managed.tensor.dtype = tw_to_dl(<unsigned char>self.wire)
        managed.tensor.shape = <int64_t *>(managed + 1)
        managed.tensor.strides = managed.tensor.shape + ndim
        for i in range(ndim):
            managed.tensor.shape[i] = cnp.PyArray_DIM(array, i)
            managed.tensor.strides[i] = cnp.PyArray_STRIDE(array, i) // size
        managed.context = <void *>array
        managed.deleter = release
        Py_INCREF(array)  # until `release`
        return PyCapsule_New(managed, FRESH, drop_unused)

    def __repr__(self):
        cdef object array = self.array
        return f"Tensor({array.dtype.name}{list(array.shape)})"
