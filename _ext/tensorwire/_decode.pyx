"""decode: bytes become a verified message whose arrays are views of those bytes."""

cimport cython
cimport numpy as cnp
from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.ref cimport Py_INCREF, PyObject
from cpython.tuple cimport PyTuple_New
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from tensorwire._c cimport (
    TW_DIMENSION, TW_DTYPE, TW_FIELD, TW_INFER_REQUEST, TW_LIMIT, TW_MAX_NDIM, TW_MISPLACED, TW_MISSING, TW_NAMES,
    TW_NBYTES, TW_OFFSET, TW_OVERFLOW, TW_SHORT, TW_STRING, TW_STRINGS, TW_UNION, TW_VECTOR, TW_VTABLE, tw_bytes,
    tw_error, tw_fault, tw_limits, tw_metadata, tw_new_array, tw_read_error, tw_read_metadata, tw_read_request, tw_read_response,
    tw_read_spec, tw_read_tensor, tw_request, tw_response, tw_spec, tw_tensor, tw_text, tw_vector, tw_vector_text,
)
from tensorwire._copies cimport note_received
from tensorwire._dtypes cimport numpy_dtype, type_name
from tensorwire._memory cimport Chunk, Held
from tensorwire._messages cimport Metadata, MetadataRequest, Request, Response, Status, TensorSpec, fill, make_tensors

from tensorwire.errors import DecodeError, LimitError

cnp.import_array()

cdef enum:
    # What a decoded message may allocate, as a multiple of the message's own size, and on top of that. An honest
    # message stays under it: its strings and tables are themselves longer than a quarter of what is made of them.
    MULTIPLE = 4
    ALLOWANCE = 1 << 16
    STRING_COST = 8
    TENSOR_COST = 64
    DIMENSION_COST = 16

cdef enum:
    # Where `decode` is not told otherwise, as its signature says.
    MAX_NBYTES = 0x7FFFFFFF
    MAX_TENSORS = 65536
    MAX_NDIM = 32
    MAX_STRINGS = 10_000_000

cdef dict WORDS = {
    TW_SHORT: "{have} bytes are too few for a message",
    TW_OFFSET: "{field} points to {have}, the message has {want} bytes",
    TW_VTABLE: "{field} has a malformed vtable ({have})",
    TW_FIELD: "{field} stands at {have} of a table of {want} bytes",
    TW_VECTOR: "{field} needs {have} bytes, {want} are left",
    TW_DTYPE: "unknown element type {have}",
    TW_DIMENSION: "dimension {have} is less than {want}",
    TW_OVERFLOW: "shape {shape} overflows",
    TW_NBYTES: "shape {shape} {dtype} needs {want} bytes, has {have}",
    TW_STRINGS: "shape {shape} needs {want} strings, has {have}",
    TW_MISPLACED: "{field} has {have} entries on a {dtype} tensor",
    TW_UNION: "request kind {have} is neither InferRequest (1) nor MetadataRequest (2)",
    TW_NAMES: "{have} {field} for {want} tensors",
    TW_MISSING: "{field} has an empty offset",
    TW_LIMIT: "{have} is over the limit {field}={want}",
}


cdef int fail(tw_fault *fault, str where, tw_tensor *tensor) except -1:
    """The one place that puts a reader's fault into words."""
    shape = dtype = None
    if tensor != NULL:
        shape = [tensor.shape[i] for i in range(tensor.ndim)]
        dtype = type_name(tensor.dtype)
    text = (<str>WORDS[fault.status]).format(
        field=fault.field.decode(), have=fault.have, want=fault.want, shape=shape, dtype=dtype)
    raise (LimitError if fault.status == TW_LIMIT else DecodeError)(f"{where}{text} (offset {fault.offset})")


@cython.final
cdef class _Source:
    """The bytes of one message, who owns them, and what decoding may still allocate."""
    cdef object owner
    cdef tw_bytes data
    cdef bint writable
    cdef bint as_str
    cdef tw_limits limits
    cdef uint64_t allowance
    cdef uint64_t strings
    cdef Py_ssize_t copied      # bytes at the start that came by a copy

    cdef int charge(self, uint64_t nbytes, uint64_t offset) except -1:
        if nbytes > self.allowance:
            raise LimitError(f"the message repeats itself: its parts would take over {MULTIPLE} times its "
                             f"{self.data.size} bytes (offset {offset})")
        self.allowance -= nbytes
        return 0

    cdef int charge_strings(self, tw_vector *vector, str what) except -1:
        self.strings += vector.count
        if self.strings > self.limits.max_strings:
            raise LimitError(f"{what}: {self.strings} strings are over the limit max_strings="
                             f"{self.limits.max_strings} (offset {vector.pos})")
        return self.charge(STRING_COST * <uint64_t>vector.count, vector.pos)  # several may share one vector

    cdef str text(self, tw_text *text, str what):
        if text.size == 0:
            return ""
        self.charge(text.size, text.offset)
        try:
            return PyUnicode_DecodeUTF8(text.data, text.size, NULL)
        except UnicodeDecodeError as error:
            raise DecodeError(f"{what} is not UTF-8: {error.reason} (offset {text.offset + error.start})") from None

    cdef tuple texts(self, tw_vector *vector, str what, bint distinct):
        cdef tw_text text
        cdef tw_fault fault
        cdef uint32_t i
        if vector.count == 0:
            return ()
        self.charge_strings(vector, what)
        cdef tuple values = PyTuple_New(vector.count)
        for i in range(vector.count):
            if tw_vector_text(vector, i, "string", &text, &fault):
                fail(&fault, f"{what}[{i}]: ", NULL)
            fill(values, i, self.text(&text, what))
        if distinct and vector.count > 1 and len(set(values)) != vector.count:
            seen = set()
            for value in values:
                if value in seen:
                    raise DecodeError(f"duplicate name {value!r} in {what} (offset {vector.pos})")
                seen.add(value)
        return values


cdef cnp.ndarray numeric_array(_Source source, tw_tensor *tensor):
    """A view of the message; its base is the owner of the bytes."""
    cdef Py_ssize_t start
    if source.copied:
        start = <const uint8_t *>tensor.data - source.data.base
        if start < source.copied:
            note_received(min(source.copied - start, <Py_ssize_t>tensor.nbytes))
    return tw_new_array(numpy_dtype(tensor.dtype), <int>tensor.ndim, tensor.shape, tensor.data, source.writable,
                        source.owner)


cdef cnp.ndarray string_array(_Source source, tw_tensor *tensor, str where):
    """An object array of new bytes (or str) objects; equal neighbours that share their place share the object."""
    cdef cnp.ndarray array
    cdef PyObject **items
    cdef tw_text text
    cdef tw_fault fault
    cdef uint64_t last = 0
    cdef uint32_t i
    cdef object value = None
    source.charge_strings(&tensor.strings, where)
    array = tw_new_array(numpy_dtype(TW_STRING), <int>tensor.ndim, tensor.shape, NULL, True, None)
    items = <PyObject **>cnp.PyArray_DATA(array)  # numpy hands object memory out zeroed
    for i in range(tensor.strings.count):
        if tw_vector_text(&tensor.strings, i, "string_val", &text, &fault):
            fail(&fault, f"{where}[{i}]: ", tensor)
        if value is None or text.offset != last:
            if source.as_str:
                value = source.text(&text, where)
            else:
                source.charge(text.size, text.offset)
                value = PyBytes_FromStringAndSize(text.data, text.size)
            last = text.offset
        Py_INCREF(value)
        items[i] = <PyObject *>value
    return array


cdef tuple arrays_of(_Source source, tw_vector *vector, tuple names):
    cdef tw_tensor tensor
    cdef tw_fault fault
    cdef uint32_t i
    if vector.count == 0:
        return ()
    cdef tuple arrays = PyTuple_New(vector.count)
    for i in range(vector.count):
        if tw_read_tensor(vector, i, &source.limits, &tensor, &fault):
            fail(&fault, where(names, i) + ": ", &tensor)
        source.charge(TENSOR_COST + DIMENSION_COST * tensor.ndim, tensor.offset)
        if tensor.dtype == TW_STRING:
            fill(arrays, i, string_array(source, &tensor, where(names, i)))
        else:
            fill(arrays, i, numeric_array(source, &tensor))
    return arrays


cdef str where(tuple names, uint32_t i):
    return f"tensor {i} {names[i]!r}" if names else f"tensor {i}"


cdef object decode_request(_Source source, type expected):
    cdef tw_request wire
    cdef tw_fault fault
    cdef Request request
    if tw_read_request(source.data, &source.limits, &wire, &fault):
        fail(&fault, "", NULL)
    if wire.kind != TW_INFER_REQUEST:
        if expected is Request:
            raise DecodeError("this is a MetadataRequest, an InferRequest was expected")
        return MetadataRequest()
    if expected is MetadataRequest:
        raise DecodeError("this is an InferRequest, a MetadataRequest was expected")
    if wire.model_version < 0 or wire.deadline_ms < 0:
        raise DecodeError(f"model_version and deadline_ms are 0 or more, not {wire.model_version} and "
                          f"{wire.deadline_ms}")
    request = Request.__new__(Request)
    names = source.texts(&wire.input_names, "input_names", True)
    request.inputs = make_tensors(names, arrays_of(source, &wire.input_tensors, names))
    request.outputs = source.texts(&wire.output_names, "output_names", False)
    request.config = source.text(&wire.config, "config")
    request.model = source.text(&wire.model_name, "model_name")
    request.label = source.text(&wire.model_label, "model_label")
    request.signature = source.text(&wire.signature, "signature")
    request.id = source.text(&wire.request_id, "request_id")
    request.version = wire.model_version
    request.deadline_ms = wire.deadline_ms
    return request


cdef Response decode_response(_Source source):
    cdef tw_response wire
    cdef tw_fault fault
    cdef Response response = Response.__new__(Response)
    if tw_read_response(source.data, &source.limits, &wire, &fault):
        fail(&fault, "", NULL)
    if wire.output_tensors.count and wire.errors.count:
        raise DecodeError(f"a response has output_tensors or errors, not {wire.output_tensors.count} and "
                          f"{wire.errors.count} (offset {wire.errors.pos})")
    names = source.texts(&wire.output_names, "output_names", True)
    response.outputs = make_tensors(names, arrays_of(source, &wire.output_tensors, names))
    response.errors = errors_of(source, &wire.errors) if wire.errors.count else ()
    return response


cdef tuple errors_of(_Source source, tw_vector *vector):
    cdef tw_fault fault
    cdef tw_error error
    cdef uint32_t i
    errors = []
    for i in range(vector.count):
        if tw_read_error(vector, i, &error, &fault):
            fail(&fault, f"errors[{i}]: ", NULL)
        source.charge(TENSOR_COST, error.message.offset)
        errors.append(Status(error.code, source.text(&error.message, "error message")))
    return tuple(errors)


cdef tuple specs_of(_Source source, tw_vector *vector, str what):
    cdef tw_spec spec
    cdef tw_fault fault
    cdef uint32_t i, k
    specs = []
    for i in range(vector.count):
        if tw_read_spec(vector, i, &source.limits, &spec, &fault):
            fail(&fault, f"{what}[{i}]: ", NULL)
        source.charge(TENSOR_COST + DIMENSION_COST * spec.ndim, spec.name.offset)
        specs.append(TensorSpec(
            source.text(&spec.name, what), numpy_dtype(spec.dtype), [spec.shape[k] for k in range(spec.ndim)],
            source.text(&spec.description, what)))
    return tuple(specs)


cdef Metadata decode_metadata(_Source source):
    cdef tw_metadata wire
    cdef tw_fault fault
    if tw_read_metadata(source.data, &source.limits, &wire, &fault):
        fail(&fault, "", NULL)
    return Metadata(
        source.text(&wire.name, "name"), source.text(&wire.version, "version"), source.text(&wire.server, "server"),
        source.text(&wire.description, "description"), specs_of(source, &wire.inputs, "inputs"),
        specs_of(source, &wire.outputs, "outputs"))


cdef Chunk gathered(segments):
    """The segments of a message behind each other in one Chunk (copy)."""
    cdef list held = [Held(segment) for segment in segments]
    cdef Py_ssize_t total = 0
    cdef Held part
    for part in held:
        total += part.view.len
    cdef Chunk chunk = Chunk(total)
    cdef uint8_t *end = chunk.data
    for part in held:
        memcpy(end, part.view.buf, part.view.len)
        end += part.view.len
    chunk.copied = total
    return chunk


cdef _Source open_source(buf):
    cdef _Source source = _Source.__new__(_Source)
    cdef Chunk chunk
    cdef Held held
    if type(buf) is list or type(buf) is tuple:
        buf = gathered(buf)
    if type(buf) is Chunk:
        chunk = <Chunk>buf
        source.owner = chunk
        source.data.base = chunk.data
        source.data.size = chunk.nbytes
        source.writable = True
        source.copied, chunk.copied = chunk.copied, 0
    else:
        held = <Held>buf if type(buf) is Held else Held(buf)
        source.owner = held
        source.data.base = <const uint8_t *>held.view.buf
        source.data.size = held.view.len
        source.writable = not held.view.readonly
    source.allowance = MULTIPLE * <uint64_t>source.data.size + ALLOWANCE
    source.limits.max_nbytes = MAX_NBYTES
    source.limits.max_tensors = MAX_TENSORS
    source.limits.max_ndim = MAX_NDIM
    source.limits.max_strings = MAX_STRINGS
    return source


cdef object decode_as(_Source source, expected):
    if expected is None or expected is Request or expected is MetadataRequest:
        return decode_request(source, expected)
    if expected is Response:
        return decode_response(source)
    if expected is Metadata:
        return decode_metadata(source)
    raise TypeError(f"decode makes a Request, MetadataRequest, Response or Metadata, not {expected!r}")


cdef object decoded(buf, type expected):
    """As ``decode``, with its limits."""
    return decode_as(open_source(buf), expected)


def decode(buf, type=None, /, *, bint as_str=False, uint64_t max_nbytes=0x7FFFFFFF, uint32_t max_tensors=65536,
           uint32_t max_ndim=32, uint64_t max_strings=10_000_000):
    """Verify one message and return it; its arrays are views of ``buf``, which lives as long as any of them.

    ``type`` says what the bytes are (the wire does not): Request, MetadataRequest, Response or Metadata; None means a
    request of either kind. A list or tuple of buffers is a message in segments, which are copied into one block first.
    Arrays over writable memory are writable, over read-only memory read-only. Numeric tensors
    are never copied, whatever their alignment (look at ``array.flags.aligned``). String tensors become object arrays of
    new ``bytes``, or of ``str`` with ``as_str`` (then they must be UTF-8).

    Limits: ``max_nbytes`` of the message, ``max_tensors`` (also names, errors, metadata entries), ``max_ndim`` of a
    tensor (at most 64), ``max_strings`` of the message in all. A message also may not refer to its parts so often that
    what is made of them takes over four times its own size.

    Raises DecodeError naming the field and the offset for anything that is not a valid message, LimitError (a
    DecodeError) for what is over a limit, TypeError or BufferError when ``buf`` is no contiguous buffer.
    """
    cdef _Source source = open_source(buf)
    source.as_str = as_str
    source.limits.max_nbytes = min(max_nbytes, <uint64_t>MAX_NBYTES)
    source.limits.max_tensors = max_tensors
    source.limits.max_ndim = min(max_ndim, <uint32_t>TW_MAX_NDIM)
    source.limits.max_strings = max_strings
    return decode_as(source, type)
