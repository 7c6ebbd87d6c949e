"""What must be refused: what each message is decoded as, under which limits, and what the error says."""

from __future__ import annotations

import struct
from typing import Any

from goldens.assemble import I64, U8, Assembler, Field, To, one_tensor, request
from goldens.cases import Bad, bad, refused

# The message and its root


@bad
def no_bytes() -> Bad:
    return Bad(b"", "0 bytes are too few for a message (offset 0)")


@bad
def seven_bytes() -> Bad:
    return Bad(bytes(7), "7 bytes are too few for a message (offset 0)")


@bad
def root_points_to_itself() -> Bad:
    return Bad(bytes(16), "root has an empty offset (offset 0)")


@bad
def root_points_past_the_end() -> Bad:
    return Bad(struct.pack("<IIII", 17, 0, 0, 0), "root points to 17, the message has 16 bytes (offset 0)")


@bad
def root_points_at_the_end() -> Bad:
    return Bad(struct.pack("<IIII", 13, 0, 0, 0), "root points to 13, the message has 16 bytes (offset 0)")


@bad
def root_points_backwards() -> Bad:
    """Offsets are unsigned: -4 is 4 GB ahead."""
    text = "root points to 4294967292, the message has 16 bytes (offset 0)"
    return Bad(struct.pack("<iIII", -4, 0, 0, 0), text)


@bad
def root_of_32_high_bits() -> Bad:
    return Bad(b"\xff" * 64, "root points to 4294967295, the message has 64 bytes (offset 0)")


# Tables and vtables


def with_root_table(text: str, **wrong: Any) -> Bad:
    message = Assembler()
    message.offset("root")
    message.table("root", U8(1), To("req"), **wrong)
    message.table("req")
    return refused(message, text)


@bad
def vtable_of_no_length() -> Bad:
    vtable = struct.pack("<4H", 0, 9, 4, 5)
    return with_root_table("root has a malformed vtable (0) (offset @root_vtable)", vtable=vtable)


@bad
def vtable_of_two_bytes() -> Bad:
    vtable = struct.pack("<4H", 2, 9, 4, 5)
    return with_root_table("root has a malformed vtable (2) (offset @root_vtable)", vtable=vtable)


@bad
def vtable_of_odd_length() -> Bad:
    vtable = struct.pack("<4H", 7, 9, 4, 5)
    return with_root_table("root has a malformed vtable (7) (offset @root_vtable)", vtable=vtable)


@bad
def vtable_of_65535_bytes() -> Bad:
    vtable = struct.pack("<4H", 65535, 9, 4, 5)
    return with_root_table("root has a malformed vtable (65535) (offset @root_vtable)", vtable=vtable)


@bad
def vtable_past_the_end() -> Bad:
    vtable = struct.pack("<4H", 65534, 9, 4, 5)
    return with_root_table("root has a malformed vtable (65534) (offset @root_vtable)", vtable=vtable)


@bad
def vtable_before_the_message() -> Bad:
    return with_root_table("root points to -1, the message has @end bytes (offset @root)", distance=13)


@bad
def vtable_far_before_the_message() -> Bad:
    text = "root points to -2147483635, the message has @end bytes (offset @root)"
    return with_root_table(text, distance=2**31 - 1)


@bad
def vtable_far_behind_the_message() -> Bad:
    text = "root points to 2147483660, the message has @end bytes (offset @root)"
    return with_root_table(text, distance=-(2**31))


@bad
def vtable_is_its_table() -> Bad:
    return with_root_table("root has a malformed vtable (0) (offset @root)", distance=0)


@bad
def table_of_no_size() -> Bad:
    vtable = struct.pack("<4H", 8, 0, 4, 5)
    return with_root_table("root has a malformed vtable (0) (offset @root_vtable+2)", vtable=vtable)


@bad
def table_of_65535_bytes() -> Bad:
    vtable = struct.pack("<4H", 8, 65535, 4, 5)
    return with_root_table("root has a malformed vtable (65535) (offset @root_vtable+2)", vtable=vtable)


@bad
def field_behind_its_table() -> Bad:
    vtable = struct.pack("<4H", 8, 9, 9, 5)
    return with_root_table("req_type stands at 9 of a table of 9 bytes (offset @root_vtable+4)", vtable=vtable)


@bad
def field_across_the_end_of_its_table() -> Bad:
    vtable = struct.pack("<4H", 8, 9, 4, 6)
    return with_root_table("req stands at 6 of a table of 9 bytes (offset @root_vtable+6)", vtable=vtable)


@bad
def field_in_the_offset_to_the_vtable() -> Bad:
    vtable = struct.pack("<4H", 8, 9, 3, 5)
    return with_root_table("req_type stands at 3 of a table of 9 bytes (offset @root_vtable+4)", vtable=vtable)


# The kind of request


def with_kind(*fields: Field, text: str) -> Bad:
    message = Assembler()
    message.offset("root")
    message.table("root", *fields)
    message.table("req")
    return refused(message, text)


@bad
def request_of_no_kind() -> Bad:
    text = "request kind 0 is neither InferRequest (1) nor MetadataRequest (2) (offset @root)"
    return with_kind(None, To("req"), text=text)


@bad
def request_of_an_unknown_kind() -> Bad:
    text = "request kind 3 is neither InferRequest (1) nor MetadataRequest (2) (offset @root)"
    return with_kind(U8(3), To("req"), text=text)


@bad
def request_without_a_request() -> Bad:
    text = "request kind 1 is neither InferRequest (1) nor MetadataRequest (2) (offset @root)"
    return with_kind(U8(1), text=text)


@bad
def metadata_request_for_a_request() -> Bad:
    return with_kind(U8(2), To("req"), text="this is a MetadataRequest, an InferRequest was expected")


@bad
def request_for_a_metadata_request() -> Bad:
    text = "this is an InferRequest, a MetadataRequest was expected"
    return refused(request(), text, "MetadataRequest")


@bad
def negative_deadline() -> Bad:
    text = "model_version and deadline_ms are 0 or more, not 3 and -1"
    return refused(request(*[None] * 5, I64(3), None, None, None, I64(-1)), text)


# Vectors


@bad
def tensors_past_the_end() -> Bad:
    message = request(None, None, To(999))
    return refused(message, "input_tensors points to 1034, the message has @end bytes (offset @req+4)")


@bad
def tensors_of_32_high_bits() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensors", count=2**32 - 1)
    return refused(message, "input_tensors needs 17179869180 bytes, 4 are left (offset @tensors)")


@bad
def tensor_offset_to_itself() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", 0)
    message.raw(bytes(8))
    return refused(message, "tensor 0: tensor has an empty offset (offset @tensors+4)")


@bad
def tensor_offset_backwards() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "root")
    return refused(message, "tensor 0: tensor points to 4294967308, the message has @end bytes (offset @tensors+4)")


@bad
def vectors_overlap_as_tensors_and_names() -> Bad:
    """The table that is the tensor is read as a string first: the distance to its vtable is the length."""
    message = request(None, To("tensors"), To("tensors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(1), vtable=b"", distance=-5)
    message.raw(struct.pack("<3H", 6, 5, 4))
    return refused(message, "input_names[0]: string needs 4294967291 bytes, 7 are left (offset @tensor)")


@bad
def vector_overlaps_its_own_entries() -> Bad:
    """The vector's last entry is its only tensor, and that table's vtable is before the message."""
    message = request(None, None, To("tensors"))
    message.offsets("tensors", 4)
    message.raw(struct.pack("<i", 99))
    return refused(message, "tensor 0: tensor points to -52, the message has @end bytes (offset @tensors+8)")


@bad
def a_billion_strings_in_a_hundred_bytes() -> Bad:
    message = one_tensor(U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 10**9)
    message.offsets("strings", count=10**9)
    assert len(message.buf) < 110
    return refused(message, "tensor 0: string_val needs 4000000000 bytes, 0 are left (offset @strings)")


@bad
def a_billion_tensors() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", count=10**9)
    return refused(message, "input_tensors needs 4000000000 bytes, 0 are left (offset @tensors)")
