"""Properties: what is encoded is decoded, by us and by the oracle; damage is noticed or harmless."""

from __future__ import annotations

import struct
from typing import Any

import meaning
import numpy as np
import oracle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from oracle import Layout, Message
from strategies import arrays, layouts, tensors, unhurried, valid_messages

import tensorwire as tw


@settings(unhurried, max_examples=400)
@given(valid_messages())
def test_encode_then_read(message: Message) -> None:
    """Our writer's bytes mean what was encoded, to our reader and to the oracle."""
    name = message["message"]
    expected = oracle.blank(name) | message
    encoded = meaning.message_from(message)
    frame = tw.encode(encoded)
    buf = bytes(frame)
    assert len(frame) == frame.nbytes == len(buf)
    assert meaning.read(buf, name) == expected
    decoded = tw.decode(buf, meaning.TYPES[name])
    assert decoded == encoded
    assert meaning.of(decoded) == expected


@settings(unhurried, max_examples=400)
@given(valid_messages(), layouts)
def test_build_then_decode(message: Message, layout: Layout) -> None:
    """Any writer's layout of a message is read as what it means, and encodes to the same again."""
    buf = meaning.build(message, layout)
    expected = oracle.blank(message["message"]) | message
    decoded = tw.decode(buf, meaning.TYPES[message["message"]])
    assert meaning.of(decoded) == expected
    again = tw.encode(decoded)
    assert meaning.read(bytes(again), message["message"]) == expected
    assert bytes(again) == bytes(tw.encode(meaning.message_from(message)))


@settings(unhurried, max_examples=300)
@given(st.lists(arrays(), max_size=4))
def test_arrays_of_any_layout(given_arrays: list[np.ndarray[Any, Any]]) -> None:
    buf = bytes(tw.encode(tw.Request(given_arrays)))
    read = oracle.read_request(buf)["input_tensors"]
    for tensor in read:
        assert tensor.get("data_offset", 0) % 64 == 0
        tensor.pop("data_offset", None)
    assert read == [oracle.as_tensor(array) for array in given_arrays]
    for array, sent in zip(tw.decode(buf, tw.Request).inputs.arrays, given_arrays, strict=True):
        assert array.shape == sent.shape
        assert array.dtype == sent.dtype.newbyteorder("=")
        assert array.tolist() == sent.tolist() or array.tobytes() == sent.astype(array.dtype).tobytes()


@unhurried
@given(st.lists(tensors(), min_size=1, max_size=3), st.integers(0, 63))
def test_decode_at_any_address(message_tensors: list[Message], shift: int) -> None:
    """The message itself may stand anywhere in memory: integers and payloads are then misaligned."""
    message: Message = {"message": "InferRequest", "input_tensors": message_tensors, "model_version": 7}
    buf = meaning.build(message)
    space = bytearray(shift + len(buf))
    space[shift:] = buf
    decoded = tw.decode(memoryview(space)[shift:], tw.Request)
    assert meaning.of(decoded) == oracle.blank("InferRequest") | message


# Damage


WORDS = st.sampled_from([0, 1, 4, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFC, 0xFFFFFFFF, 0xFFFF0000]) | st.integers(
    0, 2**32 - 1
)


@st.composite
def damaged(draw: st.DrawFn, buf: bytes) -> bytes:
    """Bytes flipped, words replaced, runs moved, inserted or cut away."""
    out = bytearray(buf)
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, len(out)))
        match draw(st.sampled_from(["flip", "byte", "word", "splice", "insert", "delete", "truncate"])):
            case "flip" if place < len(out):
                out[place] ^= 1 << draw(st.integers(0, 7))
            case "byte" if place < len(out):
                out[place] = draw(st.integers(0, 255))
            case "word":
                place = min(place, max(0, len(out) - 4)) // 4 * 4
                out[place : place + 4] = struct.pack("<I", draw(WORDS))
            case "splice":
                start = draw(st.integers(0, len(out)))
                run = out[start : start + draw(st.integers(1, 16))]
                out[place : place + len(run)] = run
            case "insert":
                out[place:place] = draw(st.binary(min_size=1, max_size=8))
            case "delete":
                del out[place : place + draw(st.integers(1, 8))]
            case "truncate":
                del out[place:]
    return bytes(out)


def check_same_or_refused(buf: bytes) -> None:
    """We refuse more than the oracle does; what we accept, it reads, and reads the same."""
    for name in ("InferRequest", "InferResponse", "MetadataResponse"):
        try:
            decoded = tw.decode(buf, None if name == "InferRequest" else meaning.TYPES[name])
        except tw.DecodeError:
            continue
        assert meaning.of(decoded) == meaning.read(buf, name)


@settings(unhurried, max_examples=1500)
@given(valid_messages(), layouts, st.data())
def test_damage_to_any_writers_message(message: Message, layout: Layout, data: st.DataObject) -> None:
    check_same_or_refused(data.draw(damaged(meaning.build(message, layout))))


@settings(unhurried, max_examples=1500)
@given(valid_messages(), st.data())
def test_damage_to_our_messages(message: Message, data: st.DataObject) -> None:
    check_same_or_refused(data.draw(damaged(bytes(tw.encode(meaning.message_from(message))))))


@unhurried
@given(st.binary(max_size=200))
@example(b"")
@example(bytes(8))
@example(b"\xff" * 64)
def test_noise(buf: bytes) -> None:
    check_same_or_refused(buf)


SMALL = [
    tw.Request({"x": np.arange(3, dtype="<i2"), "s": [b"a\0", b""]}, ["y"], model="m", version=3),
    tw.Response({"y": np.zeros((2, 1), "<f8")}),
    tw.Response(errors=[tw.Status(-7, "no")]),
    tw.Metadata("m", "1", inputs=[tw.TensorSpec("x", np.float32, [-1, 3], "d")]),
    tw.MetadataRequest(),
]


@pytest.mark.parametrize("message", SMALL, ids=lambda message: type(message).__name__)
def test_every_byte_with_every_bit_flipped(message: meaning.AnyMessage) -> None:
    buf = bytes(tw.encode(message))
    for place in range(len(buf)):
        for bit in range(8):
            flipped = bytearray(buf)
            flipped[place] ^= 1 << bit
            check_same_or_refused(bytes(flipped))


@pytest.mark.parametrize("message", SMALL, ids=lambda message: type(message).__name__)
def test_every_truncation(message: meaning.AnyMessage) -> None:
    buf = bytes(tw.encode(message))
    for end in range(len(buf)):
        check_same_or_refused(buf[:end])
        with pytest.raises(tw.DecodeError):
            tw.decode(buf[: end // 2], type(message))
