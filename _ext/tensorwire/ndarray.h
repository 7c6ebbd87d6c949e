/* Arrays made through NumPy's C-API in one call, with the reference counts in one place.
 * The including module has imported that API. */
#ifndef TW_NDARRAY_H
#define TW_NDARRAY_H

#include <Python.h>
#include <numpy/arrayobject.h>

/* With `data`, a view of memory that `base` owns, C-contiguous or by `strides` in bytes; without, new zeroed memory.
 * NumPy steals the reference to the dtype and the one to the base, so both are taken here. (Without data, flags would
 * mean Fortran order.) */
static PyObject *tw_new_strided(PyObject *dtype, int ndim, const int64_t *shape, const int64_t *strides,
                                const void *data, int writable, PyObject *base)
{
    Py_INCREF(dtype);
    PyObject *array = PyArray_NewFromDescr(&PyArray_Type, (PyArray_Descr *)dtype, ndim, (npy_intp *)shape,
                                           (npy_intp *)strides, (void *)data,
                                           data && writable ? NPY_ARRAY_WRITEABLE : 0, NULL);
    if (!array || !data)
        return array;
    Py_INCREF(base);
    if (PyArray_SetBaseObject((PyArrayObject *)array, base) < 0) {
        Py_DECREF(array);
        return NULL;
    }
    return array;
}

static PyObject *tw_new_array(PyObject *dtype, int ndim, const int64_t *shape, const void *data, int writable,
                              PyObject *base)
{
    return tw_new_strided(dtype, ndim, shape, NULL, data, writable, base);
}

#endif
