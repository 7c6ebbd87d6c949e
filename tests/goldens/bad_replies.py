"""Refused messages, continued: responses and metadata, what is over a limit, and what repeats itself."""

from __future__ import annotations

from goldens.assemble import I64, U8, Assembler, Field, To, numeric, request
from goldens.cases import Bad, bad, over, refused


def reply(*fields: Field) -> Assembler:
    message = Assembler()
    message.offset("root")
    message.table("root", *fields)
    return message


# Responses and metadata


@bad
def response_of_outputs_and_errors() -> Bad:
    message = reply(To("tensors"), To("errors"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(1), To("shape"))
    message.longs("shape", 0)
    message.offsets("errors", "error")
    message.table("error", I64(1))
    text = "a response has output_tensors or errors, not 1 and 1 (offset @errors+4)"
    return refused(message, text, "InferResponse")


@bad
def response_error_past_the_end() -> Bad:
    message = reply(None, To("errors"))
    message.offsets("errors", 12)
    text = "errors[0]: error points to 36, the message has @end bytes (offset @errors+4)"
    return refused(message, text, "InferResponse")


@bad
def response_error_not_utf8() -> Bad:
    message = reply(None, To("errors"))
    message.offsets("errors", "error")
    message.table("error", I64(1), To("text"))
    message.bytes("text", b"\xc0\x80")
    return refused(message, "error message is not UTF-8: invalid start byte (offset @text+4)", "InferResponse")


@bad
def response_of_too_many_names() -> Bad:
    message = reply(None, None, To("names"))
    message.offsets("names", "name")
    message.bytes("name", b"y")
    return refused(message, "1 output_names for 0 tensors (offset @names+4)", "InferResponse")


def specs(*fields: Field) -> Assembler:
    message = reply(None, None, None, None, To("inputs"))
    message.offsets("inputs", "spec")
    message.table("spec", *fields)
    return message


@bad
def metadata_dimension_below_any() -> Bad:
    message = specs(None, None, To("shape"))
    message.longs("shape", -1, -2)
    text = "inputs[0]: dimension -2 is less than -1 (offset @shape+12)"
    return refused(message, text, "MetadataResponse")


@bad
def metadata_type_unknown() -> Bad:
    message = specs(None, None, None, U8(19))
    return refused(message, "inputs[0]: unknown element type 19 (offset @spec)", "MetadataResponse")


@bad
def metadata_name_not_utf8() -> Bad:
    message = specs(To("name"))
    message.bytes("name", b"\xff")
    return refused(message, "inputs is not UTF-8: invalid start byte (offset @name+4)", "MetadataResponse")


# Limits


@bad
def over_max_nbytes() -> Bad:
    return over(request(), "@end is over the limit max_nbytes=24 (offset 0)", max_nbytes=24)


@bad
def over_max_tensors() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", 4, 4, 4)
    return over(message, "3 is over the limit max_tensors=2 (offset @tensors+4)", max_tensors=2)


@bad
def over_max_ndim() -> Bad:
    return over(numeric(1, [1] * 33, b"1"), "tensor 0: 33 is over the limit max_ndim=32 (offset @shape+4)")


@bad
def over_the_most_that_max_ndim_can_be() -> Bad:
    text = "tensor 0: 65 is over the limit max_ndim=64 (offset @shape+4)"
    return over(numeric(1, [1] * 65, b"1"), text, max_ndim=99)


@bad
def over_max_strings() -> Bad:
    """Names count as well: the two of them, and the tensor's two strings."""
    message = request(None, None, To("tensors"), To("names"))
    message.offsets("tensors", "tensor")
    message.table("tensor", U8(12), To("shape"), None, To("names"))
    message.longs("shape", 2)
    message.offsets("names", "one", "one")
    message.bytes("one", b"1")
    text = "output_names: 4 strings are over the limit max_strings=3 (offset @names+4)"
    return over(message, text, max_strings=3)


# Messages that refer to their parts so often that little would become much


@bad
def one_string_a_hundred_times() -> Bad:
    message = request(None, None, None, To("names"))
    message.offsets("names", *["one"] * 100)
    message.bytes("one", b"1" * 1000)
    text = "the message repeats itself: its parts would take over 4 times its @end bytes (offset @one+4)"
    return over(message, text)


@bad
def one_tensor_two_thousand_times() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", *["tensor"] * 2000)
    message.table("tensor", U8(1), To("shape"))
    message.longs("shape", 0)
    text = "the message repeats itself: its parts would take over 4 times its @end bytes (offset @tensor)"
    return over(message, text)


@bad
def one_vector_of_strings_for_a_hundred_tensors() -> Bad:
    message = request(None, None, To("tensors"))
    message.offsets("tensors", *["tensor"] * 100)
    message.table("tensor", U8(12), To("shape"), None, To("strings"))
    message.longs("shape", 200)
    message.offsets("strings", *["empty"] * 200)
    message.bytes("empty", b"")
    text = "the message repeats itself: its parts would take over 4 times its @end bytes (offset @strings+4)"
    return over(message, text)


@bad
def one_description_for_a_thousand_specs() -> Bad:
    message = reply(None, None, None, None, To("inputs"))
    message.offsets("inputs", *["spec"] * 1000)
    message.table("spec", None, To("text"))
    message.bytes("text", b"1" * 100)
    text = "the message repeats itself: its parts would take over 4 times its @end bytes (offset @text+4)"
    return over(message, text, "MetadataResponse")
