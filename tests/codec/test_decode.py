"""decode: views, strings, limits, and what it can be given."""

from __future__ import annotations

import array
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from oracle import Layout

import tensorwire as tw

X = np.arange(6, dtype="<f4").reshape(2, 3)
BUF = bytes(tw.encode(tw.Request({"x": X}, ["y"])))


def test_the_type_says_what_the_bytes_are() -> None:
    assert tw.decode(BUF) == tw.decode(BUF, tw.Request) == tw.decode(BUF, None)
    probe = bytes(tw.encode(tw.MetadataRequest()))
    assert tw.decode(probe) == tw.decode(probe, tw.MetadataRequest) == tw.MetadataRequest()
    with pytest.raises(tw.DecodeError, match="this is a MetadataRequest, an InferRequest was expected"):
        tw.decode(probe, tw.Request)
    with pytest.raises(tw.DecodeError, match="this is an InferRequest, a MetadataRequest was expected"):
        tw.decode(BUF, tw.MetadataRequest)
    for wrong in (int, "Request", tw.Tensors, tw.Frame):
        with pytest.raises(TypeError, match="decode makes a Request, MetadataRequest, Response or Metadata"):
            tw.decode(BUF, wrong)  # type: ignore[call-overload]


def test_decode_errors_are_value_errors() -> None:
    with pytest.raises(ValueError, match="too few") as caught:
        tw.decode(b"")
    assert isinstance(caught.value, tw.TensorwireError)
    assert not isinstance(caught.value, tw.LimitError)


@pytest.mark.parametrize("wire", oracle.WIRE_TYPES)
@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (2, 3), (1,) * 32], ids=str)
def test_types_and_shapes(wire: int, shape: tuple[int, ...]) -> None:
    sent = np.ones(shape).astype(oracle.WIRE_TYPES[wire])
    got = tw.decode(bytes(tw.encode(tw.Request([sent]))), tw.Request).inputs[0]
    assert (got.shape, got.dtype) == (sent.shape, sent.dtype)
    assert got.tobytes() == sent.tobytes()
    assert got.flags.c_contiguous
    assert type(got) is np.ndarray


# Sources


def test_any_contiguous_buffer(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(BUF)
    words = np.zeros((len(BUF) + 7) // 8, "u8")
    words.view("u1")[: len(BUF)] = np.frombuffer(BUF, "u1")
    chunk = tw.Chunk(len(BUF))
    memoryview(chunk)[:] = BUF
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    sources: list[Any] = [
        BUF,
        bytearray(BUF),
        memoryview(BUF),
        memoryview(b"--" + BUF)[2:],
        array.array("B", BUF),
        np.frombuffer(BUF, "u1"),
        words,
        words.reshape(2, -1) if len(words) % 2 == 0 else words,
        np.memmap(path, mode="r"),
        mapped,
        chunk,
        tw.Held(BUF),
    ]
    for source in sources:
        assert tw.decode(source, tw.Request) == tw.Request({"x": X}, ["y"])


def test_what_is_no_contiguous_buffer() -> None:
    for source in ("text", None, 7, {BUF}, object()):
        with pytest.raises(TypeError):
            tw.decode(source)  # type: ignore[call-overload]
    with pytest.raises((BufferError, ValueError)):
        tw.decode(memoryview(BUF)[::2])
    with pytest.raises((BufferError, ValueError)):
        tw.decode(np.frombuffer(BUF, "u1")[::2])


# Strings


STRINGS = [b"", b"\0", b"a\0\0", "é😀".encode()]


def test_strings_are_bytes_or_str() -> None:
    buf = bytes(tw.encode(tw.Request([np.array(STRINGS, object).reshape(2, 2)])))
    got = tw.decode(buf, tw.Request).inputs[0]
    assert (got.dtype, got.shape, got.ravel().tolist()) == (np.dtype(object), (2, 2), STRINGS)
    text = tw.decode(buf, tw.Request, as_str=True).inputs[0]
    assert text.ravel().tolist() == [each.decode() for each in STRINGS]
    assert [type(each) for each in text.flat] == [str] * 4
    assert got.flags.writeable


def test_strings_outlive_the_message_and_can_be_changed() -> None:
    buf = bytearray(tw.encode(tw.Request([[b"one", b"two"]])).__bytes__())
    got = tw.decode(buf, tw.Request).inputs[0]
    buf.clear()  # nothing refers to it
    got[0] = b"three"
    assert got.tolist() == [b"three", b"two"]


def test_binary_strings_are_no_text() -> None:
    buf = bytes(tw.encode(tw.Request({"s": [b"fine", b"\xff\xfe"]})))
    assert tw.decode(buf, tw.Request).inputs["s"].tolist() == [b"fine", b"\xff\xfe"]
    with pytest.raises(tw.DecodeError, match=r"^tensor 0 's' is not UTF-8: invalid start byte \(offset"):
        tw.decode(buf, tw.Request, as_str=True)


def test_string_scalars_and_no_strings() -> None:
    request = tw.Request([np.array(b"x", object), np.zeros((0, 2), object)])
    got = tw.decode(bytes(tw.encode(request)), tw.Request)
    assert got == request
    assert got.inputs[0].item() == b"x"


# Alignment, and other writers


@pytest.mark.parametrize("remainder", range(8))
def test_payloads_at_any_address(remainder: int) -> None:
    x = np.linspace(0, 1, 100)
    buf = bytes(tw.encode(tw.Request({"x": x})))
    space = np.zeros(len(buf) + 64, "u1")
    start = -space.ctypes.data % 64 + remainder
    space[start : start + len(buf)] = np.frombuffer(buf, "u1")
    got = tw.decode(space[start : start + len(buf)], tw.Request).inputs["x"]
    assert got.ctypes.data % 8 == remainder
    assert got.flags.aligned == (remainder == 0)
    assert np.shares_memory(got, space)
    np.testing.assert_array_equal(got, x)


def test_appended_fields() -> None:
    request = tw.Request(
        {"x": X}, model="m", version=2**63 - 1, label="l", signature="s", id="i", deadline_ms=250, config="c"
    )
    assert tw.decode(bytes(tw.encode(request)), tw.Request) == request
    plain = tw.decode(oracle.build_request({"config": "c"}), tw.Request)
    assert (plain.model, plain.version, plain.label, plain.signature) == ("", 0, "", "")
    assert (plain.id, plain.deadline_ms, plain.config) == ("", 0, "c")


def test_fields_of_a_later_schema_are_ignored() -> None:
    buf = oracle.build_request({"config": "c", "deadline_ms": 5}, Layout(unknown_fields=2))
    assert tw.decode(buf, tw.Request) == tw.Request(config="c", deadline_ms=5)


# Limits


def test_limits_are_exact() -> None:
    request = tw.Request({"a": X, "b": X}, ["y"])
    buf = bytes(tw.encode(request))
    strings = bytes(tw.encode(tw.Request([[b"1", b"2"]], ["y"])))
    for data, name, value in (
        (buf, "max_nbytes", len(buf)),
        (buf, "max_tensors", 2),
        (buf, "max_ndim", 2),
        (buf, "max_strings", 3),
        (strings, "max_strings", 3),
    ):
        limits: Any = {name: value}
        tw.decode(data, tw.Request, **limits)
        limits = {name: value - 1}
        with pytest.raises(tw.LimitError, match=f"over the limit {name}={value - 1} "):
            tw.decode(data, tw.Request, **limits)


def test_limits_of_responses_and_metadata() -> None:
    errors = bytes(tw.encode(tw.Response(errors=[tw.Status(1, "a"), tw.Status(2, "b")])))
    specs = bytes(tw.encode(tw.Metadata(inputs=[tw.TensorSpec("x", "f4", [1, 2, 3])] * 2)))
    with pytest.raises(tw.LimitError, match="max_tensors=1"):
        tw.decode(errors, tw.Response, max_tensors=1)
    with pytest.raises(tw.LimitError, match="max_tensors=1"):
        tw.decode(specs, tw.Metadata, max_tensors=1)
    with pytest.raises(tw.LimitError, match="max_ndim=2"):
        tw.decode(specs, tw.Metadata, max_ndim=2)


def test_limits_are_numbers_from_0_up() -> None:
    for name in ("max_nbytes", "max_tensors", "max_ndim", "max_strings"):
        limits: Any = {name: -1}
        with pytest.raises(OverflowError):
            tw.decode(BUF, tw.Request, **limits)


def test_a_buffer_of_two_gibibytes_is_over_the_limit() -> None:
    with pytest.raises(tw.LimitError) as caught:
        tw.decode(np.zeros(2**31, "u1"), max_nbytes=2**40)
    assert str(caught.value) == "2147483648 is over the limit max_nbytes=2147483647 (offset 0)"


# Errors name the tensor


def test_error_names_the_tensor_and_the_offset() -> None:
    request = tw.Request({"first": np.uint8([1]), "x": X})
    buf = bytearray(bytes(tw.encode(request)))
    start = oracle.read_request(buf)["input_tensors"][1]["data_offset"]
    buf[start - 4] = 20
    with pytest.raises(tw.DecodeError) as caught:
        tw.decode(buf)
    assert str(caught.value) == f"tensor 1 'x': shape [2, 3] float32 needs 24 bytes, has 20 (offset {start})"
