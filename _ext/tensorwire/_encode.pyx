"""encode: a message becomes a few hundred bytes of header and views of the arrays' own memory."""

cimport cython
cimport numpy as cnp
from cpython.buffer cimport PyObject_CheckBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_AsUTF8AndSize
from libc.stdint cimport int64_t, uint64_t, uint8_t
from libc.string cimport memset

import numpy as np

from tensorwire._c cimport (
    TW_STRING, tw_chars, tw_error_part, tw_fault, tw_header_size, tw_metadata_parts, tw_names, tw_out, tw_part,
    tw_request_parts, tw_response_parts, tw_spec_part, tw_status, tw_write_metadata, tw_write_metadata_request,
    tw_write_request, tw_write_response,
)
from tensorwire._copies cimport note_sent
from tensorwire._dlpack cimport from_dlpack
from tensorwire._dtypes cimport wire_type
from tensorwire._frame cimport Frame
from tensorwire._layout cimport Layout, assemble, layout_of
from tensorwire._messages cimport Metadata, MetadataRequest, Request, Response, Status, Tensors, TensorSpec

from tensorwire._dtypes import spec_type
from tensorwire.errors import EncodeError

cnp.import_array()

cdef enum:
    MESSAGE_END = 0x80000000    # where a flatbuffer must end; the writer checks the whole message

cdef Layout last_request = None, last_response = None

cdef union Parts:
    tw_request_parts request
    tw_response_parts response
    tw_metadata_parts metadata


@cython.final
cdef class _Scratch:
    """C arrays and the Python objects they point into, for the time of one encode."""
    cdef list blocks            # bytes objects used as memory: freed with this
    cdef list kept
    cdef Py_ssize_t inlined     # payloads of at most so many bytes are copied into the header

    def __cinit__(self):
        self.blocks = []
        self.kept = []

    cdef void *take(self, size_t n) except NULL:
        cdef bytes block = PyBytes_FromStringAndSize(NULL, n + 8)
        cdef char *start = PyBytes_AS_STRING(block)
        memset(start, 0, n)
        self.blocks.append(block)
        return start

    cdef tw_chars text(self, str value):
        cdef tw_chars chars
        cdef Py_ssize_t size
        try:
            chars.data = PyUnicode_AsUTF8AndSize(value, &size)
        except UnicodeEncodeError as error:
            raise EncodeError(f"{value!r} cannot be sent as UTF-8: {error.reason}") from None
        chars.size = size
        self.kept.append(value)
        return chars

    cdef tw_names names(self, tuple values):
        cdef tw_names out
        cdef Py_ssize_t n = len(values), i
        out.count = <unsigned int>n
        out.items = NULL
        if n == 0:
            return out
        cdef tw_chars *items = <tw_chars *>self.take(n * sizeof(tw_chars))
        for i in range(n):
            items[i] = self.text(values[i])
        out.items = items
        return out


cdef str label(str kind, tuple names, Py_ssize_t i):
    return f"{kind} {names[i]!r}" if names else f"{kind} {i}"


cdef cnp.ndarray as_array(value, str kind, tuple names, Py_ssize_t i):
    """The value as a C-contiguous array in this machine's byte order: itself where it is one already."""
    cdef cnp.ndarray array
    if isinstance(value, cnp.ndarray):
        array = value
    else:
        try:
            array = converted(value)
        except Exception as error:
            raise EncodeError(f"{label(kind, names, i)}: {type(value).__name__} is not an array: {error}") from error
    if not cnp.PyArray_CheckExact(array) and isinstance(array, np.ma.MaskedArray):
        raise EncodeError(f"{label(kind, names, i)}: the wire has no masks; send array.filled() or array.data")
    if cnp.PyArray_IS_C_CONTIGUOUS(array) and cnp.PyArray_ISNOTSWAPPED(array):
        return array
    if wire_type(array.descr) >= 0 and cnp.PyArray_NBYTES(array) >= MESSAGE_END:  # a broadcast one may exceed memory
        raise EncodeError(f"{label(kind, names, i)}: {array.nbytes:,} bytes; a flatbuffer ends below 2 GiB")
    dtype = array.dtype if cnp.PyArray_ISNOTSWAPPED(array) else array.dtype.newbyteorder("=")
    note_sent(cnp.PyArray_NBYTES(array))
    return array.astype(dtype, order="C", copy=True, subok=False)


cdef cnp.ndarray converted(value):
    """A view of what lends its memory, else what numpy makes of a value.

    Buffers come first: TensorFlow's tensors copy for DLPack and for __array__, and lend their memory so. Text is kept as
    objects, since numpy's fixed-width text loses trailing NULs.
    """
    if PyObject_CheckBuffer(value) and not isinstance(value, (bytes, np.generic)):
        try:
            return np.asarray(memoryview(value))
        except (ValueError, BufferError, NotImplementedError):
            pass  # a format that numpy does not read
    if hasattr(value, "__dlpack__") and not hasattr(value, "__array_interface__"):
        return from_dlpack(value)
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "SU" or not isinstance(value, (str, bytes, list, tuple)):
            return array
    except UnicodeDecodeError:  # bytes beside str, of which numpy would make str
        pass
    return np.asarray(value, dtype=object)


cdef int fill_strings(_Scratch scratch, cnp.ndarray array, tw_part *part, str kind, tuple names, Py_ssize_t i) except -1:
    cdef list values = array.ravel().tolist()
    cdef Py_ssize_t n = len(values), k, size
    cdef tw_chars *items = <tw_chars *>scratch.take(n * sizeof(tw_chars))
    for k in range(n):
        value = values[k]
        if type(value) is str:
            items[k] = scratch.text(value)
        elif isinstance(value, bytes):
            items[k].data = PyBytes_AS_STRING(value)
            items[k].size = PyBytes_GET_SIZE(value)
        elif isinstance(value, str):
            values[k] = str(value)
            items[k] = scratch.text(values[k])
        else:
            raise EncodeError(f"{label(kind, names, i)}: element {k} is {type(value).__name__}; "
                              "a string tensor holds bytes or str")
    scratch.kept.append(values)
    part.dtype = TW_STRING
    part.strings = items
    part.count = n
    return 0


cdef int fill_part(_Scratch scratch, cnp.ndarray array, tw_part *part, str kind, tuple names, Py_ssize_t i) except -1:
    part.ndim = <unsigned int>cnp.PyArray_NDIM(array)
    part.shape = <const int64_t *>cnp.PyArray_DIMS(array)
    cdef int wire = wire_type(array.descr)
    if wire >= 0:
        part.dtype = <uint8_t>wire
        part.data = cnp.PyArray_DATA(array)
        part.nbytes = cnp.PyArray_NBYTES(array)
        part.inlined = <Py_ssize_t>part.nbytes <= scratch.inlined
        if part.inlined:
            note_sent(<Py_ssize_t>part.nbytes)
        return 0
    if array.descr.kind in b"OSUT":
        return fill_strings(scratch, array, part, kind, names, i)
    raise EncodeError(f"{label(kind, names, i)}: the wire has no type for dtype {array.dtype}")


@cython.nonecheck(True)  # a message made by __new__ alone has none
cdef list made_of(Tensors tensors, str kind):
    """The tensors as the writer takes them. It may run the caller's code, so nothing points into them before."""
    cdef Py_ssize_t n = len(tensors.arrays), i
    if n and tensors.names and len(tensors.names) != n:
        raise EncodeError(f"{len(tensors.names)} names for {n} tensors")
    return [as_array(tensors.arrays[i], kind, tensors.names, i) for i in range(n)]


cdef tw_part *fill_parts(_Scratch scratch, list arrays, str kind, tuple names) except? NULL:
    cdef Py_ssize_t n = len(arrays), i
    cdef tw_part *parts
    if n == 0:
        return NULL
    parts = <tw_part *>scratch.take(n * sizeof(tw_part))
    for i in range(n):
        fill_part(scratch, arrays[i], &parts[i], kind, names, i)
    return parts


cdef int too_large(tw_fault *fault) except -1:
    raise EncodeError(f"the message would have {fault.have:,} bytes; a flatbuffer ends below 2 GiB ({fault.want:,})")


cdef bytes write(object message, Parts *parts, uint64_t *nbytes):
    """Both passes of the writer: measure, then fill a bytes object of exactly the header's size, which is returned."""
    cdef tw_out out
    cdef tw_fault fault
    cdef bytes header = None
    cdef tw_status status
    for _ in range(2):
        memset(&out, 0, sizeof(out))
        if header is not None:
            out.base = <uint8_t *>PyBytes_AS_STRING(header)
        if type(message) is Request:
            status = tw_write_request(&out, &parts.request, &fault)
        elif type(message) is Response:
            status = tw_write_response(&out, &parts.response, &fault)
        elif type(message) is Metadata:
            status = tw_write_metadata(&out, &parts.metadata, &fault)
        else:
            status = tw_write_metadata_request(&out, &fault)
        if status:
            too_large(&fault)
        if header is None:
            header = PyBytes_FromStringAndSize(NULL, tw_header_size(&out))
    nbytes[0] = out.pos
    return header


@cython.nonecheck(True)
cdef Frame encode_request(Request request, Py_ssize_t inlined):
    global last_request
    cdef list arrays = made_of(request.inputs, "input")
    cdef tuple fields = (
        inlined, request.inputs.names, request.outputs, request.config, request.model, request.version, request.label,
        request.signature, request.id, request.deadline_ms)
    cdef Layout layout = last_request  # held here: a collection may run code that encodes
    if layout is not None and layout.fits(fields, arrays):
        return layout.frame(arrays)
    cdef _Scratch scratch = _Scratch.__new__(_Scratch)
    cdef Parts parts
    cdef uint64_t nbytes
    scratch.inlined = inlined
    memset(&parts, 0, sizeof(parts))
    parts.request.inputs.count = <unsigned int>len(arrays)
    parts.request.inputs.items = fill_parts(scratch, arrays, "input", request.inputs.names)
    parts.request.input_names = scratch.names(request.inputs.names)
    parts.request.output_names = scratch.names(request.outputs)
    parts.request.config = scratch.text(request.config)
    parts.request.model_name = scratch.text(request.model)
    parts.request.model_label = scratch.text(request.label)
    parts.request.signature = scratch.text(request.signature)
    parts.request.request_id = scratch.text(request.id)
    parts.request.model_version = request.version
    parts.request.deadline_ms = request.deadline_ms
    header = write(request, &parts, &nbytes)
    layout = layout_of(fields, arrays, parts.request.inputs.items, header, nbytes)
    if layout is not None:
        last_request = layout
    return assemble(header, nbytes, parts.request.inputs.items, arrays)


@cython.nonecheck(True)
cdef Frame encode_response(Response response, Py_ssize_t inlined):
    global last_response
    cdef list arrays = made_of(response.outputs, "output")
    cdef tuple fields = (inlined, response.outputs.names)
    cdef Py_ssize_t n = len(response.errors), i
    cdef Layout layout = None if n else last_response  # held here: a collection may run code that encodes
    if layout is not None and layout.fits(fields, arrays):
        return layout.frame(arrays)
    cdef _Scratch scratch = _Scratch.__new__(_Scratch)
    cdef Parts parts
    cdef tw_error_part *errors
    cdef uint64_t nbytes
    scratch.inlined = inlined
    memset(&parts, 0, sizeof(parts))
    parts.response.outputs.count = <unsigned int>len(arrays)
    parts.response.outputs.items = fill_parts(scratch, arrays, "output", response.outputs.names)
    parts.response.output_names = scratch.names(response.outputs.names)
    if n:
        errors = <tw_error_part *>scratch.take(n * sizeof(tw_error_part))
        for i in range(n):
            errors[i].code = (<Status>response.errors[i]).code
            errors[i].message = scratch.text((<Status>response.errors[i]).message)
        parts.response.errors = errors
        parts.response.error_count = <unsigned int>n
    header = write(response, &parts, &nbytes)
    layout = None if n else layout_of(fields, arrays, parts.response.outputs.items, header, nbytes)
    if layout is not None:
        last_response = layout
    return assemble(header, nbytes, parts.response.outputs.items, arrays)


cdef tw_spec_part *fill_specs(_Scratch scratch, tuple specs) except? NULL:
    cdef Py_ssize_t n = len(specs), i, k
    cdef tw_spec_part *parts
    cdef int64_t *shape
    cdef TensorSpec spec
    if n == 0:
        return NULL
    parts = <tw_spec_part *>scratch.take(n * sizeof(tw_spec_part))
    for i in range(n):
        spec = specs[i]
        parts[i].name = scratch.text(spec.name)
        parts[i].description = scratch.text(spec.description)
        parts[i].ndim = <unsigned int>len(spec.shape)
        try:
            parts[i].dtype = spec_type(spec.dtype)
        except TypeError as error:
            raise EncodeError(f"{spec.name!r}: {error}") from None
        shape = <int64_t *>scratch.take(parts[i].ndim * sizeof(int64_t))
        for k in range(parts[i].ndim):
            shape[k] = spec.shape[k]
        parts[i].shape = shape
    return parts


cdef Frame encode_metadata(Metadata metadata):
    cdef _Scratch scratch = _Scratch()
    cdef Parts parts
    memset(&parts, 0, sizeof(parts))
    parts.metadata.name = scratch.text(metadata.name)
    parts.metadata.version = scratch.text(metadata.version)
    parts.metadata.server = scratch.text(metadata.server)
    parts.metadata.description = scratch.text(metadata.description)
    parts.metadata.input_count = <unsigned int>len(metadata.inputs)
    parts.metadata.output_count = <unsigned int>len(metadata.outputs)
    parts.metadata.inputs = fill_specs(scratch, metadata.inputs)
    parts.metadata.outputs = fill_specs(scratch, metadata.outputs)
    return alone(metadata, &parts)


cdef Frame alone(object message, Parts *parts):
    """A message that is nothing but a header."""
    cdef uint64_t nbytes
    header = write(message, parts, &nbytes)
    return assemble(header, nbytes, NULL, [])


def encode(message, /, *, Py_ssize_t inline_nbytes=INLINE_NBYTES):
    """Encode one message.

    Copies no contiguous little-endian tensor of over ``inline_nbytes`` (one of at most so many is copied into the
    header); strided arrays are copied once, big-endian ones swapped once. Raises EncodeError for a dtype that the wire
    does not know and for a message of 2 GiB or more.
    """
    return encoded(message, inline_nbytes)


cdef Frame encoded(object message, Py_ssize_t inlined):
    if type(message) is Request:
        return encode_request(message, inlined)
    if type(message) is Response:
        return encode_response(message, inlined)
    if type(message) is Metadata:
        return encode_metadata(message)
    if type(message) is MetadataRequest:
        return alone(message, NULL)
    raise EncodeError(f"encode takes a Request, MetadataRequest, Response or Metadata, not {type(message).__name__}")
