"""Protobuf messages declared at run time: nothing is generated or copied."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = [
    "BOOL",
    "BYTES",
    "DOUBLE",
    "ENUM",
    "FLOAT",
    "INT32",
    "INT64",
    "MESSAGE",
    "OPTIONAL",
    "REPEATED",
    "STRING",
    "UINT32",
    "UINT64",
    "Fields",
    "classes",
    "declare",
]

OPTIONAL, REPEATED = 1, 3
DOUBLE, FLOAT, INT64, UINT64, INT32, BOOL, STRING, MESSAGE, BYTES, UINT32, ENUM = 1, 2, 3, 4, 5, 8, 9, 11, 12, 13, 14

Fields = tuple[tuple[str, int, int, int, str], ...]
"""Fields as (name, number, label, type, message or enum type); labels and types are descriptor.proto's numbers."""


def declare(package: str, messages: Mapping[str, Fields]) -> Any:
    """A FileDescriptorProto with the messages, in proto3; raises ImportError without protobuf."""
    from google.protobuf import descriptor_pb2

    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, label, kind, of in fields:
            added = message.field.add(name=field, number=number, label=label, type=kind)
            if of:
                added.type_name = f".{package}.{of}"
    return file


def classes(file: Any) -> dict[str, Any]:
    """The classes of a file's messages by name, made in a pool of their own."""
    from google.protobuf import descriptor_pool, message_factory

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        message.name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{message.name}"))
        for message in file.message_type
    }
