"""Caffe2's messages, declared for google.protobuf at run time.

Field numbers and types are those of https://github.com/pytorch/pytorch/blob/v1.13.1/caffe2/proto/caffe2.proto; fields
that say how and where a network runs (devices, workers, engines, profiles) are left out, and so skipped.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NamedTuple

__all__ = ["Messages", "messages"]


class Messages(NamedTuple):
    """The message classes: ``NetDef`` (name, op, arg, external_input, external_output), ``OperatorDef`` (input,
    output, name, type, arg) and ``Argument`` (name, f, i, s, floats, ints, strings).
    """

    NetDef: Any
    OperatorDef: Any
    Argument: Any


_FIELDS: dict[str, tuple[tuple[str, int, str, bool], ...]] = {
    "Argument": (
        ("name", 1, "string", False),
        ("f", 2, "float", False),
        ("i", 3, "int64", False),
        ("s", 4, "bytes", False),
        ("n", 8, "NetDef", False),
        ("floats", 5, "float", True),
        ("ints", 6, "int64", True),
        ("strings", 7, "bytes", True),
        ("nets", 9, "NetDef", True),
    ),
    "OperatorDef": (
        ("input", 1, "string", True),
        ("output", 2, "string", True),
        ("name", 3, "string", False),
        ("type", 4, "string", False),
        ("arg", 5, "Argument", True),
    ),
    "NetDef": (
        ("name", 1, "string", False),
        ("op", 2, "OperatorDef", True),
        ("type", 3, "string", False),
        ("arg", 6, "Argument", True),
        ("external_input", 7, "string", True),
        ("external_output", 8, "string", True),
    ),
}


@cache
def messages() -> Messages:
    """The message classes, made once, in a pool of their own. Raises ImportError without protobuf.

    Caffe2 declares ``floats`` and ``ints`` without packing; here they are packed, which parsers take either way, and
    which lets a serialized list of floats be read as one block of memory.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    field_type = descriptor_pb2.FieldDescriptorProto
    scalars = {
        "string": field_type.TYPE_STRING,
        "bytes": field_type.TYPE_BYTES,
        "float": field_type.TYPE_FLOAT,
        "int64": field_type.TYPE_INT64,
    }
    file = descriptor_pb2.FileDescriptorProto(name="tensorwire_caffe2.proto", package="caffe2", syntax="proto2")
    for message_name, fields in _FIELDS.items():
        message = file.message_type.add(name=message_name)
        for name, number, kind, repeated in fields:
            label = field_type.LABEL_REPEATED if repeated else field_type.LABEL_OPTIONAL
            field = message.field.add(name=name, number=number, label=label)
            if kind in scalars:
                field.type = scalars[kind]
                field.options.packed = repeated and kind in ("float", "int64")
            else:
                field.type = field_type.TYPE_MESSAGE
                field.type_name = f".caffe2.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return Messages(
        *(message_factory.GetMessageClass(pool.FindMessageTypeByName(f"caffe2.{name}")) for name in Messages._fields)
    )
