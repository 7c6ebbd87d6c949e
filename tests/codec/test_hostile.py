"""Small messages that would become much, or take long: refused, or bounded by a small multiple of their size."""

from __future__ import annotations

import struct
import tracemalloc
from contextlib import suppress
from typing import Any

import pytest
from goldens.assemble import U8, Assembler, To, request

import tensorwire as tw

MULTIPLE = 20
"""Bytes that decoding may take for each byte of a message, at the worst: short strings that share their place, of
which each becomes an object of some fifty bytes for the four of its offset."""
CONSTANT = 2 << 20


def peak(buf: bytes, kind: Any = tw.Request, **options: Any) -> int:
    """Bytes that decoding took at its highest, whether or not it came to an end."""
    tracemalloc.start()
    try:
        with suppress(tw.DecodeError):
            decoded = tw.decode(buf, kind, **options)
            del decoded
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def shared_string(count: int, size: int) -> bytes:
    """Two strings in turn, so that no neighbours are the same."""
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(12), To("shape"), None, To("strings"))
    message.longs("shape", count)
    message.offsets("strings", *["a", "b"] * (count // 2))
    message.bytes("a", b"a" * size)
    message.bytes("b", b"b" * size)
    return message.done()


def test_65536_offsets_to_one_tensor() -> None:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", *["tensor"] * 65536)
    message.table("tensor", U8(1), To("shape"))
    message.longs("shape", *[0] * 32)
    buf = message.done()
    with pytest.raises(tw.LimitError, match="the message repeats itself"):
        tw.decode(buf)
    assert peak(buf) < MULTIPLE * len(buf) + CONSTANT


def test_one_string_of_a_kilobyte_100000_times() -> None:
    buf = shared_string(100_000, 1000)
    with pytest.raises(tw.LimitError, match="the message repeats itself"):
        tw.decode(buf)
    for as_str in (False, True):
        assert peak(buf, as_str=as_str) < MULTIPLE * len(buf) + CONSTANT


def test_equal_neighbours_share_one_object() -> None:
    """A column of one label is no reason to refuse a message, and takes the place of one."""
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 100_000)
    message.offsets("strings", *["label"] * 100_000)
    message.bytes("label", b"a" * 1000)
    buf = message.done()
    strings = tw.decode(buf, tw.Request).inputs[0]
    assert len({id(each) for each in strings}) == 1
    assert peak(buf) < 3 * len(buf) + CONSTANT


@pytest.mark.parametrize("size", [1, 2, 7, 8, 9, 100])
def test_short_strings_shared(size: int) -> None:
    buf = shared_string(50_000, size)
    for as_str in (False, True):
        assert peak(buf, as_str=as_str) < MULTIPLE * len(buf) + CONSTANT


def test_wide_text() -> None:
    """One character outside the basic plane makes every other of its string four bytes wide."""
    for count in (1, 100):
        message = request(None, None, None, To("names"))
        message.offsets("names", *["one"] * count)
        message.bytes("one", "😀".encode() + b"a" * 100_000)
        buf = message.done()
        assert peak(buf) < MULTIPLE * len(buf) + CONSTANT


def test_one_vector_of_strings_for_every_tensor() -> None:
    for tensors, strings in ((2000, 5000), (100, 100_000), (65536, 150)):
        message = request(None, None, To("tensors"))
        message.offsets("tensors", *["tensor"] * tensors)
        message.table("tensor", U8(12), To("shape"), None, To("strings"))
        message.longs("shape", strings)
        message.offsets("strings", *["empty"] * strings)
        message.bytes("empty", b"")
        buf = message.done()
        assert peak(buf) < MULTIPLE * len(buf) + CONSTANT


def test_one_spec_or_error_many_times() -> None:
    for kind, slot in ((tw.Metadata, 4), (tw.Response, 1)):
        message = Assembler()
        message.offset("root")
        message.table("root", *[None] * slot, To("parts"))
        message.offsets("parts", *["part"] * 60_000)
        message.table("part", To("text") if slot == 4 else None, To("text"))
        message.bytes("text", b"text")
        buf = message.done()
        assert peak(buf, kind) < MULTIPLE * len(buf) + CONSTANT


def test_the_last_of_65536_names_is_a_duplicate() -> None:
    """Finding which takes no longer than reading them."""
    names = [struct.pack("<I", i).hex().encode() for i in range(65535)]
    message = request(None, To("names"), To("tensors"))
    message.offsets("names", *[f"n{i}" for i in range(65535)], "n65534")
    for i, name in enumerate(names):
        message.bytes(f"n{i}", name)
    message.offsets("tensors", *[4] * 65536)
    with pytest.raises(tw.DecodeError, match="duplicate name 'feff0000' in input_names"):
        tw.decode(message.done())


@pytest.mark.parametrize("claim", [2**31, 10**9, 2**32 - 1])
def test_a_count_alone_allocates_nothing(claim: int) -> None:
    for field in range(4):
        message = request(*[None] * field, To("many"))
        message.offsets("many", count=claim)
        assert peak(message.done()) < 20_000
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(12), To("shape"), None, To("strings"))
    message.longs("shape", claim)
    message.offsets("strings", count=claim)
    assert peak(message.done()) < 20_000


def test_honest_messages_are_under_the_bound() -> None:
    """The bound is on repetition; the densest messages without any pass it."""
    tw.decode(bytes(tw.encode(tw.Request([[""] * 200_000]))))
    tw.decode(bytes(tw.encode(tw.Request([["ab"] * 100_000]))), tw.Request, as_str=True)
    tw.decode(bytes(tw.encode(tw.Request([["😀"] * 100_000]))), tw.Request, as_str=True)
    tw.decode(bytes(tw.encode(tw.Request([b""] * 65536))))
    tw.decode(bytes(tw.encode(tw.Response([1] * 65536))), tw.Response)
    tw.decode(bytes(tw.encode(tw.Request({str(i): i for i in range(65536)}))))
    tw.decode(bytes(tw.encode(tw.Request([[]] * 65536))))
    tw.decode(bytes(tw.encode(tw.Response(errors=[tw.Status(1, "")] * 65536))), tw.Response)
    tw.decode(bytes(tw.encode(tw.Metadata(inputs=[tw.TensorSpec("")] * 65536))), tw.Metadata)
