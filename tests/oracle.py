"""A slow reader and writer of GraphPipe messages, to check the fast ones against.

It stands on the plain `flatbuffers` package alone: no generated code, and nothing of the library under test.
A message is a dict with the field names of `schema/graphpipe.fbs`; a tensor is one of

    {"type": 10, "shape": [2, 3], "data": b"...", "data_offset": 64}
    {"type": 12, "shape": [2], "strings": [b"a", b""]}

with the wire value of its element type. `data_offset` is where the elements start in the message, 0 if it has
no such vector. Readers give every field, absent ones as "", [] or 0, and raise ValueError where an offset or
a length leaves the message or text is not UTF-8; they do not compare shapes with lengths. Writers take the
same dicts, write only the keys that are there, and leave every other freedom of the format to a `Layout`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import ml_dtypes
import numpy as np
from flatbuffers import number_types as N
from flatbuffers.builder import Builder
from flatbuffers.table import Table

Message = dict[str, Any]

STRING = 12

WIRE_TYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("u1"),
    2: np.dtype("i1"),
    3: np.dtype("<u2"),
    4: np.dtype("<i2"),
    5: np.dtype("<u4"),
    6: np.dtype("<i4"),
    7: np.dtype("<u8"),
    8: np.dtype("<i8"),
    9: np.dtype("<f2"),
    10: np.dtype("<f4"),
    11: np.dtype("<f8"),
    13: np.dtype("?"),
    14: np.dtype(ml_dtypes.bfloat16),
    15: np.dtype("<c8"),
    16: np.dtype("<c16"),
    17: np.dtype(ml_dtypes.float8_e4m3fn),
    18: np.dtype(ml_dtypes.float8_e5m2),
}
"""The dtype of each wire value that `Tensor.data` holds; Null (0) and String (12) have none."""

REQUESTS = {"InferRequest": 1, "MetadataRequest": 2}
"""The union's members and their wire values."""

TABLES: dict[str, dict[str, str]] = {
    "Tensor": {"type": "Type", "shape": "[int64]", "data": "[uint8]", "string_val": "[string]"},
    "Request": {"req_type": "uint8", "req": "table"},
    "InferRequest": {
        "config": "string",
        "input_names": "[string]",
        "input_tensors": "[Tensor]",
        "output_names": "[string]",
        "model_name": "string",
        "model_version": "int64",
        "model_label": "string",
        "signature": "string",
        "request_id": "string",
        "deadline_ms": "int64",
    },
    "Error": {"code": "int64", "message": "string"},
    "InferResponse": {"output_tensors": "[Tensor]", "errors": "[Error]", "output_names": "[string]"},
    "MetadataRequest": {},
    "IOMetadata": {"name": "string", "description": "string", "shape": "[int64]", "type": "Type"},
    "MetadataResponse": {
        "name": "string",
        "version": "string",
        "server": "string",
        "description": "string",
        "inputs": "[IOMetadata]",
        "outputs": "[IOMetadata]",
    },
}
"""Fields of each table in schema order, which is vtable order. A union takes two slots, first its type."""

_SCALARS: dict[str, Any] = {"Type": N.Uint8Flags, "uint8": N.Uint8Flags, "int64": N.Int64Flags}


def blank(name: str) -> Message:
    """Return what a reader gives for a message without a single field."""
    empty: dict[str, Any] = {"string": "", **dict.fromkeys(_SCALARS, 0)}
    return {"message": name, **{key: empty.get(kind, []) for key, kind in TABLES[name].items()}}


# Reading


def read_request(buf: Any) -> Message:
    """Read a Request; the result's "message" says which member of the union it held."""
    return _checked(buf, _read_union)


def read_infer_response(buf: Any) -> Message:
    """Read an InferResponse: "output_tensors", "errors" ({"code", "message"}) and "output_names"."""
    return _checked(buf, lambda root: _read_table(root, "InferResponse"))


def read_metadata_response(buf: Any) -> Message:
    """Read a MetadataResponse; "inputs" and "outputs" hold {"name", "description", "shape", "type"}."""
    return _checked(buf, lambda root: _read_table(root, "MetadataResponse"))


def _checked(buf: Any, read: Callable[[Table], Message]) -> Message:
    """Apply `read` to the root table of a copy of `buf`, with one exception type for all that can fail."""
    data = bytes(buf)
    try:
        return read(Table(data, Table(data, 0).Indirect(0)))
    except (struct.error, TypeError) as error:  # the package's words for behind the end and before the start
        raise ValueError(f"an offset leaves the {len(data)} byte message: {error}") from error


def _read_union(root: Table) -> Message:
    member = _read_field(root, _slot("Request", "req_type"), "uint8")
    names = [name for name, value in REQUESTS.items() if value == member]
    offset = root.Offset(_slot("Request", "req"))
    if not names or not offset:
        raise ValueError(f"Request holds no known request (req_type {member}, req at {offset})")
    request = Table(root.Bytes, root.Indirect(root.Pos + offset))
    return _read_table(request, names[0])


def _read_table(table: Table, name: str) -> Message:
    fields = {key: _read_field(table, _slot(name, key), kind) for key, kind in TABLES[name].items()}
    return fields if name in ("Error", "IOMetadata") else {"message": name, **fields}


def _read_field(table: Table, slot: int, kind: str) -> Any:
    offset = table.Offset(slot)
    if kind in _SCALARS:
        return table.Get(_SCALARS[kind], table.Pos + offset) if offset else 0
    if kind == "string":
        return _read_string(table, table.Pos + offset).decode() if offset else ""
    if kind == "[string]":
        return [string.decode() for string in _read_strings(table, slot)]
    if kind == "[int64]":
        start, count = _read_vector(table, slot, 8)
        return np.frombuffer(table.Bytes, "<i8", count, start).tolist() if count else []
    start, count = _read_vector(table, slot, 4)
    tables = [Table(table.Bytes, table.Indirect(start + 4 * i)) for i in range(count)]
    member = kind.strip("[]")
    return [_read_tensor(each) if member == "Tensor" else _read_table(each, member) for each in tables]


def _read_tensor(table: Table) -> Message:
    kinds = {"type": "Type", "shape": "[int64]"}
    tensor = {key: _read_field(table, _slot("Tensor", key), kind) for key, kind in kinds.items()}
    if tensor["type"] == STRING:
        return {**tensor, "strings": _read_strings(table, _slot("Tensor", "string_val"))}
    start, count = _read_vector(table, _slot("Tensor", "data"), 1)
    return {**tensor, "data": table.Bytes[start : start + count], "data_offset": start}


def _read_strings(table: Table, slot: int) -> list[bytes]:
    start, count = _read_vector(table, slot, 4)
    return [_read_string(table, start + 4 * i) for i in range(count)]


def _read_string(table: Table, position: int) -> bytes:
    """The bytes of the string whose offset is stored at `position`, without the NUL that follows them."""
    start, count = _span(table, table.Indirect(position), 1)
    return bytes(table.Bytes[start : start + count])


def _read_vector(table: Table, slot: int, width: int) -> tuple[int, int]:
    """Position of the first element, and number of elements; (0, 0) if the field is absent."""
    offset = table.Offset(slot)
    return _span(table, table.Indirect(table.Pos + offset), width) if offset else (0, 0)


def _span(table: Table, position: int, width: int) -> tuple[int, int]:
    count: int = table.Get(N.UOffsetTFlags, position)
    start: int = position + N.UOffsetTFlags.bytewidth
    if count * width > len(table.Bytes) - start:
        raise ValueError(f"{count} elements of {width} bytes at {start} leave the message")
    return start, count


def _slot(name: str, key: str) -> int:
    """Position of a field's entry in the vtable, whose uint16 entries follow two uint16 sizes."""
    return 4 + 2 * list(TABLES[name]).index(key)


# Building


@dataclass(frozen=True)
class Layout:
    """What the format leaves to a writer: messages that differ only in this mean the same."""

    order: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """For a table's name, the order in which its fields are added; those not named follow in schema order."""
    omit_empty: bool = True
    """Leave out empty strings and vectors, rather than write their length of 0."""
    force_defaults: bool = False
    """Write integers that are 0, which a reader would assume of absent ones."""
    share_strings: bool = False
    """Write equal strings once."""
    share_vtables: bool = True
    """Write equal vtables once, rather than one for each table."""
    data_alignment: int = 1
    """Boundary for `Tensor.data` from the start of the message, a power of two; 1 and 2 act as 4."""
    unknown_fields: int = 0
    """Number of int64 fields after the last that the schema knows, in every table but Request."""


PLAIN = Layout()


def build_request(message: Message, layout: Layout = PLAIN) -> bytes:
    """Write a Request that holds an InferRequest, or a MetadataRequest if the dict's "message" says so."""
    name = message.get("message", "InferRequest")
    builder = _new_builder(layout)
    request = _build_table(builder, name, message, layout)
    return _finish(builder, "Request", {"req_type": REQUESTS[name], "req": request}, layout)


def build_metadata_request(layout: Layout = PLAIN) -> bytes:
    """Write a Request that holds a MetadataRequest."""
    return build_request({"message": "MetadataRequest"}, layout)


def build_infer_response(message: Message, layout: Layout = PLAIN) -> bytes:
    """Write an InferResponse; tensors and errors can both be given, though no server may send that."""
    return _finish(_new_builder(layout), "InferResponse", message, layout)


def build_metadata_response(message: Message, layout: Layout = PLAIN) -> bytes:
    """Write a MetadataResponse."""
    return _finish(_new_builder(layout), "MetadataResponse", message, layout)


def _new_builder(layout: Layout) -> Builder:
    builder = Builder(64)
    builder.ForceDefaults(layout.force_defaults)
    return builder


def _finish(builder: Builder, name: str, values: Message, layout: Layout) -> bytes:
    builder.Finish(_build_table(builder, name, values, layout))
    return bytes(builder.Output())


def _build_table(builder: Builder, name: str, values: Message, layout: Layout) -> int:
    """Write a table, after everything that it refers to: a flatbuffer grows from its end to its start."""
    kinds = TABLES[name]
    if name == "Tensor" and "strings" in values:
        values = {**values, "string_val": values["strings"]}
    placed: dict[str, int] = {}
    for key in dict.fromkeys([*layout.order.get(name, ()), *kinds]):
        kind = kinds[key]
        if key not in values:
            continue
        if kind in _SCALARS or kind == "table":
            placed[key] = values[key]
        elif values[key] or not layout.omit_empty:
            placed[key] = _build_value(builder, kind, values[key], layout)
    if not layout.share_vtables:
        builder.vtables.clear()
    unknown = 0 if name == "Request" else layout.unknown_fields
    slots = list(kinds)
    builder.StartObject(len(slots) + unknown)
    for key, value in placed.items():
        if kinds[key] in _SCALARS:
            builder.PrependSlot(_SCALARS[kinds[key]], slots.index(key), value, 0)
        else:
            builder.PrependUOffsetTRelativeSlot(slots.index(key), value, 0)
    for i in range(unknown):
        builder.PrependInt64Slot(len(slots) + i, -1 - i, 0)
    return int(builder.EndObject())


def _build_value(builder: Builder, kind: str, value: Any, layout: Layout) -> int:
    """Write a string or a vector, and return where it is, counted from the end of the message."""
    if kind == "string":
        return int(builder.CreateSharedString(value) if layout.share_strings else builder.CreateString(value))
    if kind == "[uint8]":
        builder.StartVector(1, len(value), layout.data_alignment)
        builder.head -= len(value)
        builder.Bytes[builder.head : builder.head + len(value)] = value
        return int(builder.EndVector())
    if kind == "[int64]":
        builder.StartVector(8, len(value), 8)
        for number in reversed(value):
            builder.PrependInt64(number)
        return int(builder.EndVector())
    member = kind.strip("[]")
    build = _build_value if member == "string" else _build_table
    offsets = [build(builder, member, each, layout) for each in value]
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


# Tensors and arrays


def as_array(tensor: Message) -> np.ndarray[Any, Any]:
    """Copy a tensor to an array; a String tensor as an object array of bytes."""
    if tensor["type"] == STRING:
        array = np.empty(prod(tensor["shape"]), object)
        array[:] = tensor["strings"]
    else:
        array = np.frombuffer(tensor["data"], WIRE_TYPES[tensor["type"]]).copy()
    return array.reshape(tensor["shape"])


def as_tensor(array: np.ndarray[Any, Any]) -> Message:
    """Copy an array to a tensor; arrays of `bytes` or `str` as String, text in UTF-8."""
    shape = list(array.shape)
    if array.dtype.kind in "OSU":
        strings = [each.encode() if isinstance(each, str) else bytes(each) for each in array.flat]
        return {"type": STRING, "shape": shape, "strings": strings}
    dtype = array.dtype.newbyteorder("<")
    wire = {dtype: value for value, dtype in WIRE_TYPES.items()}[dtype]
    return {"type": wire, "shape": shape, "data": array.astype(dtype).tobytes()}


def without_offsets(message: Message) -> Message:
    """Copy what a reader gave, less each tensor's `data_offset`: equal to what a writer was given."""
    lists = ("input_tensors", "output_tensors")
    return message | {
        key: [{k: v for k, v in tensor.items() if k != "data_offset"} for tensor in message[key]]
        for key in lists
        if key in message
    }
