"""The messages of the wire as plain values: equal when their parts are, picklable, readable when printed."""

cimport cython
from cpython.dict cimport PyDict_Next
from cpython.ref cimport PyObject
from cpython.tuple cimport PyTuple_New

from collections.abc import Mapping

import numpy as np

from libc.stdint cimport int64_t


cdef Tensors make_tensors(tuple names, tuple arrays):
    cdef Tensors tensors = Tensors.__new__(Tensors)
    tensors.names = names
    tensors.arrays = arrays
    return tensors


cdef Tensors as_tensors(value):
    if type(value) is Tensors:
        return <Tensors>value
    if type(value) is dict:
        return tensors_of(<dict>value)
    return Tensors(value)


cdef Tensors tensors_of(dict items):
    cdef Py_ssize_t count = len(items), position = 0, i = 0
    cdef PyObject *key
    cdef PyObject *value
    cdef tuple names = PyTuple_New(count), arrays = PyTuple_New(count)
    if len(items) != count:  # what a collection runs may have changed it
        raise RuntimeError("the tensors changed while a message was made of them")
    while PyDict_Next(items, &position, &key, &value):
        fill(names, i, <object>key)
        fill(arrays, i, <object>value)
        i += 1
    return make_tensors(checked_names(names), arrays)


cdef Response make_response(dict outputs):
    cdef Response response = Response.__new__(Response)
    response.outputs = as_tensors(outputs)
    response.errors = ()
    return response


cdef tuple checked_names(tuple names):
    for name in names:
        if type(name) is not str:
            raise TypeError(f"a tensor's name is a str, not {type(name).__name__}: {name!r}")
    return names


cdef tuple texts(value, str what):
    """A sequence of str as a tuple; a bare str is refused, since it is a sequence of str itself."""
    if type(value) is tuple and not value:
        return <tuple>value
    if isinstance(value, str):
        raise TypeError(f"{what} is a sequence of names, not the one str {value!r}")
    return checked_names(tuple(value))


cdef str brief(array):
    """dtype[shape] of an array; for a string tensor without a fixed width, the word string."""
    if not isinstance(array, np.ndarray):
        return type(array).__name__
    dtype = "string" if array.dtype.kind == "O" else array.dtype.name
    return f"{dtype}{list(array.shape)}"


cdef bint same_array(a, b):
    if a is b:
        return True
    if not (isinstance(a, np.ndarray) and isinstance(b, np.ndarray)):
        a, b = np.asarray(a), np.asarray(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype.kind in "OSUT":
        return a.tolist() == b.tolist()
    # Bytes, not values: a NaN equals itself, and -0.0 is not 0.0.
    return bool(np.array_equal(np.ascontiguousarray(a).reshape(-1).view(np.uint8),
                               np.ascontiguousarray(b).reshape(-1).view(np.uint8)))


@cython.final
cdef class Tensors:
    """Tensors(tensors=())\n--\n\nThe tensors of a message, in order: a read-only mapping by name, and by position.

    ``t["x"]`` is the tensor named x (KeyError if there is none), ``t[0]`` the first (IndexError past the end).
    ``names`` and ``arrays`` are tuples in the order of the message. Without names (GraphPipe: "the model's own")
    ``names`` is empty and the keys are the positions as text, "0", "1", ...
    """

    def __init__(self, tensors=()):
        if isinstance(tensors, Tensors):
            self.names, self.arrays = (<Tensors>tensors).names, (<Tensors>tensors).arrays
        elif isinstance(tensors, Mapping):
            self.names = checked_names(tuple(tensors))
            self.arrays = tuple(tensors.values())
        elif isinstance(tensors, (list, tuple)):
            self.names, self.arrays = (), tuple(tensors)
        else:
            self.names, self.arrays = (), (tensors,)

    cdef Py_ssize_t place(self, str name) except -1:
        if self.places is None:
            self.places = {key: i for i, key in enumerate(self.keys())}
        place = self.places.get(name)
        if place is None:
            raise KeyError(name)
        return place

    def __getitem__(self, key):
        if type(key) is str:
            return self.arrays[self.place(key)]
        return self.arrays[key]

    def __contains__(self, key):
        return key in self.keys()

    def __len__(self):
        return len(self.arrays)

    def __iter__(self):
        return iter(self.keys())

    def keys(self):
        return self.names if self.names else tuple([str(i) for i in range(len(self.arrays))])

    def values(self):
        return self.arrays

    def items(self):
        return tuple(zip(self.keys(), self.arrays))

    def get(self, key, default=None):
        try:
            return self[key]
        except LookupError:
            return default

    def __eq__(self, other):
        if type(other) is not Tensors:
            return NotImplemented
        cdef Tensors them = <Tensors>other
        return (self.names == them.names and len(self.arrays) == len(them.arrays)
                and all([same_array(a, b) for a, b in zip(self.arrays, them.arrays)]))

    __hash__ = None

    def __reduce__(self):
        return Tensors, (dict(zip(self.names, self.arrays)) if self.names else self.arrays,)

    def __repr__(self):
        parts = [f"{name!r}: {brief(a)}" for name, a in zip(self.names, self.arrays)]
        return "{" + ", ".join(parts) + "}" if self.names else "[" + ", ".join([brief(a) for a in self.arrays]) + "]"


Mapping.register(Tensors)


@cython.final
cdef class TensorSpec:
    """TensorSpec(name, dtype=None, shape=(), description='')\n--\n\nWhat a model says of one input or output: name, dtype (None when any), shape (-1: any size), description."""

    def __init__(self, str name not None, dtype=None, shape=(), str description not None=""):
        self.name = name
        self.dtype = None if dtype is None else np.dtype(dtype)
        self.shape = tuple([int(dim) for dim in shape])
        self.description = description
        if any([dim < -1 for dim in self.shape]):
            raise ValueError(f"{name!r}: a dimension is a size, or -1 for any; got {list(self.shape)}")

    def _parts(self):
        return self.name, self.dtype, self.shape, self.description

    def __eq__(self, other):
        return self._parts() == other._parts() if type(other) is TensorSpec else NotImplemented

    def __hash__(self):
        return hash(self._parts())

    def __reduce__(self):
        return TensorSpec, self._parts()

    def __repr__(self):
        dtype = "any" if self.dtype is None else "string" if self.dtype.kind == "O" else self.dtype.name
        return f"TensorSpec({self.name!r}, {dtype}{list(self.shape)})"


@cython.final
cdef class Status:
    """Status(code, message)\n--\n\nOne error of a response: ``code`` (int64; see schema/WIRE.md) and ``message``."""

    def __init__(self, int64_t code, str message not None):
        self.code = code
        self.message = message

    def __eq__(self, other):
        if type(other) is not Status:
            return NotImplemented
        return self.code == (<Status>other).code and self.message == (<Status>other).message

    def __hash__(self):
        return hash((self.code, self.message))

    def __reduce__(self):
        return Status, (self.code, self.message)

    def __repr__(self):
        return f"Status({self.code}, {self.message!r})"


def _request(inputs, outputs, named):
    """Rebuilds a pickled Request, whose options are keyword-only."""
    return Request(inputs, outputs, **named)


@cython.final
cdef class Request:
    """Request(inputs=(), outputs=(), *, config='', model='', version=0, label='', signature='', id='', deadline_ms=0)\n--\n\nRun a model: wire message Request/InferRequest.

    ``inputs``: mapping of name to array, or a sequence of arrays when the model's own order is meant (empty names
    on the wire). ``outputs``: names wanted, empty for the model's defaults. ``config``: free text for the model.
    ``model``, ``version`` (0: the server's choice), ``label``, ``signature``, ``id`` and ``deadline_ms`` (0: none) are
    appended fields that an original GraphPipe peer does not see.
    """

    def __init__(self, inputs=(), outputs=(), *, str config not None="", str model not None="", int64_t version=0,
                 str label not None="", str signature not None="", str id not None="", int64_t deadline_ms=0):
        if version < 0 or deadline_ms < 0:
            raise ValueError(f"version and deadline_ms are 0 or more; got {version} and {deadline_ms}")
        self.inputs = as_tensors(inputs)
        self.outputs = texts(outputs, "outputs")
        self.config = config
        self.model = model
        self.version = version
        self.label = label
        self.signature = signature
        self.id = id
        self.deadline_ms = deadline_ms

    def _options(self):
        return {"config": self.config, "model": self.model, "version": self.version, "label": self.label,
                "signature": self.signature, "id": self.id, "deadline_ms": self.deadline_ms}

    def __eq__(self, other):
        if type(other) is not Request:
            return NotImplemented
        return (self.outputs == (<Request>other).outputs and self._options() == other._options()
                and self.inputs == (<Request>other).inputs)

    __hash__ = None

    def __reduce__(self):
        return _request, (self.inputs, self.outputs, self._options())

    def __repr__(self):
        options = "".join([f", {name}={value!r}" for name, value in self._options().items() if value])
        outputs = f", outputs={list(self.outputs)}" if self.outputs else ""
        return f"Request({self.inputs!r}{outputs}{options})"


@cython.final
cdef class MetadataRequest:
    """MetadataRequest()\n--\n\nAsk for a model's metadata: wire message Request/MetadataRequest."""

    def __init__(self):
        pass

    def __eq__(self, other):
        return True if type(other) is MetadataRequest else NotImplemented

    def __hash__(self):
        return hash(MetadataRequest)

    def __reduce__(self):
        return MetadataRequest, ()

    def __repr__(self):
        return "MetadataRequest()"


@cython.final
cdef class Response:
    """Response(outputs=(), errors=())\n--\n\nThe answer to a Request: wire message InferResponse. Exactly one of ``outputs`` and ``errors`` is filled."""

    def __init__(self, outputs=(), errors=()):
        self.outputs = as_tensors(outputs)
        self.errors = tuple(errors)
        for error in self.errors:
            if type(error) is not Status:
                raise TypeError(f"errors are Status objects, not {type(error).__name__}")
        if self.errors and self.outputs.arrays:
            raise ValueError("a response has outputs or errors, not both")

    def __eq__(self, other):
        if type(other) is not Response:
            return NotImplemented
        return self.errors == (<Response>other).errors and self.outputs == (<Response>other).outputs

    __hash__ = None

    def __reduce__(self):
        return Response, (self.outputs, self.errors)

    def __repr__(self):
        return f"Response(errors={list(self.errors)})" if self.errors else f"Response({self.outputs!r})"


@cython.final
cdef class Metadata:
    """Metadata(name='', version='', server='', description='', inputs=(), outputs=())\n--\n\nThe answer to a MetadataRequest: wire message MetadataResponse."""

    def __init__(self, str name not None="", str version not None="", str server not None="",
                 str description not None="", inputs=(), outputs=()):
        self.name = name
        self.version = version
        self.server = server
        self.description = description
        self.inputs = tuple(inputs)
        self.outputs = tuple(outputs)
        for spec in self.inputs + self.outputs:
            if type(spec) is not TensorSpec:
                raise TypeError(f"inputs and outputs are TensorSpec objects, not {type(spec).__name__}")

    def _parts(self):
        return self.name, self.version, self.server, self.description, self.inputs, self.outputs

    def __eq__(self, other):
        return self._parts() == other._parts() if type(other) is Metadata else NotImplemented

    def __hash__(self):
        return hash(self._parts())

    def __reduce__(self):
        return Metadata, self._parts()

    def __repr__(self):
        return f"Metadata({self.name!r}, version={self.version!r}, inputs={list(self.inputs)}, outputs={list(self.outputs)})"
