"""Refused messages, continued: tensors, names and text, responses and metadata, limits and amplification."""

from __future__ import annotations

from goldens.assemble import U8, To, numeric, one_tensor, request
from goldens.cases import Bad, bad, refused

# Shapes


def shape(dims: list[int], problem: str, wire: int = 10) -> Bad:
    return refused(numeric(wire, dims, bytes(24)), f"tensor 0: {problem}")


@bad
def shape_needs_more() -> Bad:
    """The text that the documentation shows."""
    message = request(None, To("names"), To("tensors"))
    message.offsets("names", "first", "x")
    message.bytes("first", b"")
    message.bytes("x", b"x")
    message.offsets("tensors", "fine", "tensor")
    message.table("fine", U8(1), To("fine_shape"))
    message.longs("fine_shape", 0)
    message.table("tensor", U8(10), To("shape"), To("data"))
    message.longs("shape", 2, 3)
    message.bytes("data", bytes(20))
    return refused(message, "tensor 1 'x': shape [2, 3] float32 needs 24 bytes, has 20 (offset @data+4)")


@bad
def shape_needs_less() -> Bad:
    return shape([5], "shape [5] float32 needs 20 bytes, has 24 (offset @data+4)")


@bad
def shape_of_no_elements_with_data() -> Bad:
    return shape([0], "shape [0] float32 needs 0 bytes, has 24 (offset @data+4)")


@bad
def scalar_with_more_data() -> Bad:
    return shape([], "shape [] float32 needs 4 bytes, has 24 (offset @data+4)")


@bad
def dimension_negative() -> Bad:
    return shape([-1, -6], "dimension -1 is less than 0 (offset @shape+4)")


@bad
def dimension_of_2_to_the_63() -> Bad:
    """As an int64 it is the smallest of all."""
    return shape([2, -(2**63)], "dimension -9223372036854775808 is less than 0 (offset @shape+12)")


@bad
def dimension_of_2_to_the_63_less_1() -> Bad:
    return shape([2**63 - 1], "shape [9223372036854775807] overflows (offset @tensor)", 10)


@bad
def shape_overflows_to_zero() -> Bad:
    """2**32 times 2**32 is 0 in 64 bits."""
    return shape([2**32, 2**32], "shape [4294967296, 4294967296] overflows (offset @tensor)", 1)


@bad
def shape_overflows_to_the_right_length() -> Bad:
    """Times four bytes it is 24 in 64 bits, which is what is there."""
    dims = [2, 3 + 2**61]
    return shape(dims, f"shape {dims} overflows (offset @tensor)")


@bad
def shape_overflows_beside_a_zero() -> Bad:
    dims = [0, 2**62, 2**62]
    return shape(dims, f"shape {dims} overflows (offset @tensor)")


@bad
def shape_past_the_end() -> Bad:
    message = one_tensor(U8(10), To("shape"))
    message.longs("shape", 1, 2, count=2**31)
    return refused(message, "tensor 0: shape needs 17179869184 bytes, 16 are left (offset @shape)")


@bad
def shape_cut_within_a_dimension() -> Bad:
    message = one_tensor(U8(10), To("shape"))
    message.longs("shape", 1, 2)
    del message.buf[-1]
    return refused(message, "tensor 0: shape needs 16 bytes, 15 are left (offset @shape)")


@bad
def data_past_the_end() -> Bad:
    message = numeric(1, [3], b"abc")
    del message.buf[-1]
    return refused(message, "tensor 0: data needs 3 bytes, 2 are left (offset @data)")


# Types


@bad
def type_null() -> Bad:
    return shape([6], "unknown element type 0 (offset @tensor)", 0)


@bad
def type_19() -> Bad:
    return shape([24], "unknown element type 19 (offset @tensor)", 19)


@bad
def type_255() -> Bad:
    return shape([24], "unknown element type 255 (offset @tensor)", 255)


@bad
def strings_too_few() -> Bad:
    message = one_tensor(U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 2, 1)
    message.offsets("strings", "one")
    message.bytes("one", b"1")
    return refused(message, "tensor 0: shape [2, 1] needs 2 strings, has 1 (offset @strings+4)")


@bad
def strings_missing() -> Bad:
    message = one_tensor(U8(12))
    return refused(message, "tensor 0: shape [] needs 1 strings, has 0 (offset @tensor)")


@bad
def strings_on_a_numeric_tensor() -> Bad:
    message = one_tensor(U8(1), To("shape"), To("data"), To("strings"))
    message.longs("shape", 1)
    message.bytes("data", b"1")
    message.offsets("strings", "one")
    message.bytes("one", b"1")
    return refused(message, "tensor 0: string_val has 1 entries on a uint8 tensor (offset @strings+4)")


@bad
def data_on_a_string_tensor() -> Bad:
    message = one_tensor(U8(12), To("shape"), To("data"), To("strings"))
    message.longs("shape", 1)
    message.bytes("data", b"1")
    message.offsets("strings", "one")
    message.bytes("one", b"1")
    return refused(message, "tensor 0: data has 1 entries on a string tensor (offset @data+4)")


@bad
def string_element_past_the_end() -> Bad:
    message = one_tensor(U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 2)
    message.offsets("strings", "one", 99)
    message.bytes("one", b"1")
    return refused(message, "tensor 0[1]: string_val points to 191, the message has @end bytes (offset @strings+8)")


@bad
def string_element_too_long() -> Bad:
    message = one_tensor(U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 1)
    message.offsets("strings", "one")
    message.bytes("one", b"1", count=2**32 - 1)
    return refused(message, "tensor 0[0]: string_val needs 4294967295 bytes, 1 are left (offset @one)")


# Names and text


def names(*given: bytes, tensors: int, text: str) -> Bad:
    message = request(None, To("names"), To("tensors"))
    labels = ["name_a", "name_b", "name_c"][: len(given)]
    message.offsets("names", *labels)
    for label, name in zip(labels, given, strict=True):
        message.bytes(label, name)
    message.offsets("tensors", *["tensor"] * tensors)
    message.table("tensor", U8(1), To("shape"))
    message.longs("shape", 0)
    return refused(message, text)


@bad
def more_names_than_tensors() -> Bad:
    return names(b"x", b"y", tensors=1, text="2 input_names for 1 tensors (offset @names+4)")


@bad
def fewer_names_than_tensors() -> Bad:
    return names(b"x", tensors=2, text="1 input_names for 2 tensors (offset @names+4)")


@bad
def names_without_tensors() -> Bad:
    return names(b"x", tensors=0, text="1 input_names for 0 tensors (offset @names+4)")


@bad
def names_twice() -> Bad:
    text = "duplicate name 'x' in input_names (offset @names+4)"
    return names(b"x", b"y", b"x", tensors=3, text=text)


@bad
def names_empty_twice() -> Bad:
    return names(b"", b"", tensors=2, text="duplicate name '' in input_names (offset @names+4)")


@bad
def name_not_utf8() -> Bad:
    return names(b"ab\xff", tensors=1, text="input_names is not UTF-8: invalid start byte (offset @name_a+6)")


@bad
def name_ends_within_a_character() -> Bad:
    return names(b"a\xc3", tensors=1, text="input_names is not UTF-8: unexpected end of data (offset @name_a+5)")


@bad
def name_with_a_surrogate() -> Bad:
    text = "input_names is not UTF-8: invalid continuation byte (offset @name_a+4)"
    return names("\ud800".encode("utf-8", "surrogatepass"), tensors=1, text=text)


@bad
def config_not_utf8() -> Bad:
    message = request(To("config"))
    message.bytes("config", b"\x80")
    return refused(message, "config is not UTF-8: invalid start byte (offset @config+4)")


@bad
def string_element_not_utf8_as_str() -> Bad:
    message = one_tensor(U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 1)
    message.offsets("strings", "one")
    message.bytes("one", b"1\xfe")
    text = "tensor 0 is not UTF-8: invalid start byte (offset @one+5)"
    return refused(message, text, as_str=True)
