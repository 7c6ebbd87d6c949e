"""Which numpy dtype each wire type is, and back.

The wire values are those of enum Type in schema/graphpipe.fbs (_ext/c/dtypes.h).
"""

cimport numpy as cnp

import numpy as np

from tensorwire._c cimport NPY_USERDEF, TW_DTYPE_COUNT, TW_NULL_TYPE, TW_STRING

cnp.import_array()

cdef tuple NAMES = (
    "null", "uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64", "float16", "float32", "float64",
    "string", "bool", "bfloat16", "complex64", "complex128", "float8_e4m3fn", "float8_e5m2",
)
cdef dict EXTENDED = {"bfloat16": 14, "float8_e4m3fn": 17, "float8_e5m2": 18}  # numpy has them from ml_dtypes
cdef list dtypes = [
    None if name == "null" or name in EXTENDED else np.dtype(object) if name == "string" else np.dtype(name)
    for name in NAMES
]


cdef int wire_type(cnp.dtype dtype) except -2:
    """The wire value of a numeric dtype of either byte order; -1 when the wire has none for it."""
    cdef int size = dtype.itemsize
    cdef char kind = dtype.kind
    if dtype.type_num >= NPY_USERDEF:
        return EXTENDED.get(dtype.name, -1)
    if kind == c"f":
        return 10 if size == 4 else 11 if size == 8 else 9 if size == 2 else -1
    if kind == c"i":
        return 8 if size == 8 else 6 if size == 4 else 2 if size == 1 else 4
    if kind == c"u":
        return 7 if size == 8 else 5 if size == 4 else 1 if size == 1 else 3
    if kind == c"b":
        return 13
    if kind == c"c":
        return 15 if size == 8 else 16 if size == 16 else -1
    return -1


cdef cnp.dtype numpy_dtype(int wire):
    """The numpy dtype of a wire value that the reader has accepted; object for String, None for Null."""
    dtype = dtypes[wire]
    if dtype is None and wire != TW_NULL_TYPE:
        import ml_dtypes

        dtype = dtypes[wire] = np.dtype(getattr(ml_dtypes, NAMES[wire]))
    return dtype


cdef str type_name(int wire):
    """The name of a wire value, for messages to people."""
    return NAMES[wire] if 0 <= wire < TW_DTYPE_COUNT else f"type {wire}"


def spec_type(dtype):
    """The wire value for a dtype in metadata: Null for None, String for any text or object dtype.

    Raises TypeError when the wire has none for it.
    """
    if dtype is None:
        return TW_NULL_TYPE
    cdef cnp.dtype given = np.dtype(dtype)
    if given.kind in "SUOT":
        return TW_STRING
    cdef int wire = wire_type(given)
    if wire < 0:
        raise TypeError(f"the wire has no type for dtype {given}")
    return wire
