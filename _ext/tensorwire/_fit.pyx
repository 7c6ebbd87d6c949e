"""Whether tensors are what their specs say, as fast as it can be told."""

cimport cython
cimport numpy as cnp
from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t

from tensorwire._messages cimport Tensors, TensorSpec

cnp.import_array()


@cython.final
cdef class Fit:
    """Fit(specs, any=False)\n--\n\nThe specs of a signature's inputs or outputs (TensorSpec), prepared.

    ``any``: tensors that no spec describes are welcome. It accepts only what is exactly as described, each dtype being
    numpy's one object of its kind; what it does not accept may still be right, and is for a slower look.
    """

    def __cinit__(self, specs, bint any=False):
        cdef TensorSpec spec
        cdef Py_ssize_t i, axis, dimensions = 0
        specs = list(specs)
        for spec in specs:
            dimensions += len(spec.shape)
        self.count = len(specs)
        self.any = any
        self.names = tuple([spec.name for spec in specs])
        self.places = {name: i for i, name in enumerate(self.names)}
        self.dtypes = [spec.dtype for spec in specs]
        self.ranks = <int *>PyMem_Malloc((self.count + 1) * sizeof(int))
        self.starts = <Py_ssize_t *>PyMem_Malloc((self.count + 1) * sizeof(Py_ssize_t))
        self.sizes = <int64_t *>PyMem_Malloc((dimensions + 1) * sizeof(int64_t))
        if self.ranks == NULL or self.starts == NULL or self.sizes == NULL:
            raise MemoryError
        dimensions = 0
        for i in range(self.count):
            spec = specs[i]
            self.starts[i], self.ranks[i] = dimensions, <int>len(spec.shape)
            for axis in range(self.ranks[i]):
                self.sizes[dimensions] = spec.shape[axis]
                dimensions += 1

    def __dealloc__(self):
        PyMem_Free(self.ranks)
        PyMem_Free(self.starts)
        PyMem_Free(self.sizes)

    def inputs(self, Tensors tensors not None):
        """The arrays by name, in the specs' order (a new dict), or None. Tensors without names have the specs'."""
        return self.taken(tensors)

    def outputs(self, found, asked):
        """The outputs that are asked for in a dict, in that order; all when none are (a new dict), or None."""
        return self.made(found, asked)

    cdef dict taken(self, Tensors tensors):
        cdef tuple names = tensors.names, arrays = tensors.arrays
        cdef Py_ssize_t i, count = len(arrays)
        cdef dict found = {}
        if self.any:
            if len(names) != count:
                return None
        elif count != self.count or (names and names != self.names):
            return None
        else:
            names = self.names
        for i in range(count):
            array = arrays[i]
            if not cnp.PyArray_CheckExact(array) or not (self.any or self.fits(array, i)):
                return None
            found[names[i]] = array
        return found if len(found) == count else None

    cdef dict made(self, found, asked):
        cdef dict results = {}
        if type(found) is not dict:
            return None
        for name in asked or found:
            array = (<dict>found).get(name)
            if array is None or not cnp.PyArray_CheckExact(array) or has_fixed_text(array):
                return None
            place = self.places.get(name)
            if place is not None and not self.fits(array, place):
                return None
            results[name] = array
        return results

    cdef bint fits(self, cnp.ndarray array, Py_ssize_t i) except -1:
        cdef int axis, rank = self.ranks[i]
        cdef int64_t *sizes = self.sizes + self.starts[i]
        dtype = self.dtypes[i]
        if dtype is not None and array.descr is not dtype:
            return False
        if rank:
            if cnp.PyArray_NDIM(array) != rank:
                return False
            for axis in range(rank):
                if sizes[axis] >= 0 and sizes[axis] != cnp.PyArray_DIM(array, axis):
                    return False
        return True


cdef bint has_fixed_text(cnp.ndarray array) noexcept:
    """Strings of numpy's own, of a fixed width, which the wire does not have."""
    return array.descr.kind == c"U" or array.descr.kind == c"S"
