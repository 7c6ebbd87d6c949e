"""What other writers may make of the format and we must read: any alignment, order, sharing and omission."""

from __future__ import annotations

import struct

import oracle
from oracle import Layout, Message

from goldens.assemble import U8, Assembler, To, one_tensor, request

FLOATS = struct.pack("<3d", 0.5, -1.0, 2.0)
THREE_FLOATS: Message = {"type": 11, "shape": [3], "data": FLOATS}
FULL: Message = {
    "message": "InferRequest",
    "config": "c",
    "input_names": ["x", "s"],
    "input_tensors": [THREE_FLOATS, {"type": 12, "shape": [2], "strings": [b"a\0", b""]}],
    "output_names": ["y"],
    "model_name": "m",
    "model_version": 2,
}


def tensors(*given: Message, **fields: object) -> Message:
    return {"message": "InferRequest", "input_tensors": list(given), **fields}


def payload_at(remainder: int) -> bytes:
    """Three float64 whose first byte is `remainder` past a multiple of eight."""
    message = one_tensor(U8(11), To("shape"), To("data"))
    message.longs("shape", 3)
    message.pad(8, ahead=4 - remainder)
    message.bytes("data", FLOATS)
    return message.done()


def all_at(remainder: int) -> bytes:
    """A message whose vtables, tables, vectors and integers are aligned to nothing."""
    message = Assembler()
    message.offset("root")
    message.raw(bytes(remainder))
    message.table("root", U8(1), To("req"), vtable=struct.pack("<4H", 8, 9, 4, 5))
    message.raw(bytes(3))
    message.table("req", None, To("names"), To("tensors"), None, None)
    message.offsets("names", "name")
    message.bytes("name", b"x")
    message.raw(bytes(3))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(11), To("shape"), To("data"))
    message.raw(bytes(3))
    message.longs("shape", 3)
    message.bytes("data", FLOATS)
    return message.done()


def vtable_behind_its_table() -> bytes:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(11), To("shape"), To("data"), vtable=b"", distance=-13)
    message.raw(struct.pack("<5H", 10, 13, 4, 5, 9))
    message.longs("shape", 3)
    message.bytes("data", FLOATS)
    return message.done()


def one_tensor_twice() -> bytes:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor", "tensor")
    message.table("tensor", U8(11), To("shape"), To("data"))
    message.longs("shape", 3)
    message.bytes("data", FLOATS)
    return message.done()


def overlapping_payloads() -> bytes:
    """The second payload starts within the first: its length is the last four bytes of the first."""
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "a", "b")
    message.table("a", U8(1), To("a_shape"), To("a_data"))
    message.table("b", U8(1), To("b_shape"), To("b_data"))
    message.longs("a_shape", 8)
    message.longs("b_shape", 3)
    message.bytes("a_data", b"\1\2\3\4" + struct.pack("<I", 3))
    message.places["b_data"] = len(message.buf) - 4
    message.raw(b"\7\x08\x09")
    return message.done()


def overlapping_vectors() -> bytes:
    """One vector is the names and the strings of a tensor; one shape is that of both tensors."""
    message = request(None, To("texts"), To("tensors"))
    message.offsets("tensors", "a", "b")
    message.table("a", U8(12), To("shape"), None, To("texts"))
    message.table("b", U8(1), To("shape"), To("data"))
    message.longs("shape", 2)
    message.bytes("data", b"\5\6")
    message.offsets("texts", "one", "two")
    message.bytes("one", b"1")
    message.bytes("two", b"2")
    return message.done()


def scalar_without_a_shape() -> bytes:
    message = one_tensor(U8(11), None, To("data"))
    message.bytes("data", FLOATS[:8])
    return message.done()


def no_elements_and_no_data() -> bytes:
    message = one_tensor(U8(10), To("shape"))
    message.longs("shape", 0, 2**40)
    return message.done()


def messages() -> dict[str, tuple[bytes, Message]]:
    found: dict[str, tuple[bytes, Message]] = {}
    for remainder in range(8):
        found[f"payload_at_8n+{remainder}"] = payload_at(remainder), tensors(THREE_FLOATS)
    for remainder in range(1, 4):
        found[f"all_at_4n+{remainder}"] = all_at(remainder), tensors(THREE_FLOATS, input_names=["x"])
    layouts = {
        "fields_in_reverse": Layout(order={k: list(v)[::-1] for k, v in oracle.TABLES.items()}),
        "defaults_written": Layout(force_defaults=True, omit_empty=False),
        "unknown_fields": Layout(unknown_fields=2),
        "vtables_for_each": Layout(share_vtables=False),
        "strings_shared": Layout(share_strings=True),
        "payloads_at_32": Layout(data_alignment=32),
    }
    for name, layout in layouts.items():
        found[name] = oracle.build_request(FULL, layout), FULL
    same = tensors({"type": 12, "shape": [2, 2], "strings": [b"b", b"a", b"b", b"b"]}, output_names=["b"])
    found["equal_strings_shared"] = oracle.build_request(same, Layout(share_strings=True)), same
    found["bytes_behind_the_message"] = oracle.build_request(FULL) + b"\xff" * 9, FULL
    found["vtable_behind_its_table"] = vtable_behind_its_table(), tensors(THREE_FLOATS)
    found["one_tensor_twice"] = one_tensor_twice(), tensors(THREE_FLOATS, THREE_FLOATS)
    found["overlapping_payloads"] = (
        overlapping_payloads(),
        tensors(
            {"type": 1, "shape": [8], "data": b"\1\2\3\4\3\0\0\0"},
            {"type": 1, "shape": [3], "data": b"\7\x08\x09"},
        ),
    )
    found["overlapping_vectors"] = (
        overlapping_vectors(),
        tensors(
            {"type": 12, "shape": [2], "strings": [b"1", b"2"]},
            {"type": 1, "shape": [2], "data": b"\5\6"},
            input_names=["1", "2"],
        ),
    )
    scalar: Message = {"type": 11, "shape": [], "data": FLOATS[:8]}
    found["scalar_without_a_shape"] = scalar_without_a_shape(), tensors(scalar)
    empty: Message = {"type": 10, "shape": [0, 2**40], "data": b""}
    found["no_elements_and_no_data"] = no_elements_and_no_data(), tensors(empty)
    response: Message = {"message": "InferResponse", "errors": [{"code": 3, "message": "é"}]}
    found["response_in_reverse"] = (
        oracle.build_infer_response(response, layouts["fields_in_reverse"]),
        response,
    )
    spec: Message = {"name": "x", "description": "", "shape": [-1, 3], "type": 10}
    metadata: Message = {"message": "MetadataResponse", "server": "s", "inputs": [spec], "outputs": [spec]}
    found["metadata_in_reverse"] = (
        oracle.build_metadata_response(metadata, layouts["fields_in_reverse"]),
        metadata,
    )
    found["metadata_request"] = oracle.build_metadata_request(), {"message": "MetadataRequest"}
    return found
