"""The messages as values: equal, hashable or not, printed, copied, pickled, and what they refuse to hold."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Mapping
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorwire as tw

X = np.arange(6, dtype="f4").reshape(2, 3)


def request(**changed: Any) -> tw.Request:
    options: dict[str, Any] = {
        "config": "{}",
        "model": "m",
        "version": 3,
        "label": "stable",
        "signature": "s",
        "id": "i",
        "deadline_ms": 250,
    }
    inputs = changed.pop("inputs", {"x": X, "n": np.int64(1)})
    return tw.Request(inputs, changed.pop("outputs", ["y"]), **options | changed)


SPEC = tw.TensorSpec("x", np.float32, [-1, 3], "what goes in")
MESSAGES = [
    request(),
    tw.Request(),
    tw.Request([X, np.array([b"a", b"\0"], object)]),
    tw.MetadataRequest(),
    tw.Response({"y": X}),
    tw.Response([X]),
    tw.Response(errors=[tw.Status(-3, "no")]),
    tw.Metadata("m", "1", "server", "text", [SPEC], [tw.TensorSpec("any"), tw.TensorSpec("s", object)]),
    SPEC,
    tw.Status(7, "text"),
    tw.Tensors({"a": X}),
    tw.Tensors([X, 1.5]),
]


@pytest.mark.parametrize("message", MESSAGES, ids=repr)
@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, *[lambda m, p=p: pickle.loads(pickle.dumps(m, p)) for p in range(2, 6)]],
    ids=["copy", "deepcopy", "pickle 2", "pickle 3", "pickle 4", "pickle 5"],
)
def test_copies_and_pickles_are_equal(message: Any, again: Any) -> None:
    other = again(message)
    assert other == message
    assert type(other) is type(message)
    assert repr(other) == repr(message)


def test_equality_is_of_every_part() -> None:
    assert request() == request(inputs={"x": X.copy(), "n": np.int64(1)})
    for changed in (
        {"config": ""},
        {"model": "other"},
        {"version": 4},
        {"label": ""},
        {"signature": ""},
        {"id": ""},
        {"deadline_ms": 0},
        {"outputs": []},
        {"inputs": {"x": X}},
        {"inputs": [X, np.int64(1)]},
        {"inputs": {"n": np.int64(1), "x": X}},
        {"inputs": {"x": X + 1, "n": np.int64(1)}},
        {"inputs": {"x": X.astype("f8"), "n": np.int64(1)}},
        {"inputs": {"x": X.reshape(3, 2), "n": np.int64(1)}},
    ):
        assert request(**changed) != request()
    assert tw.Status(1, "a") != tw.Status(1, "b")
    assert tw.Metadata("m") != tw.Metadata("m", inputs=[SPEC])
    assert tw.Response() != tw.Response(errors=[tw.Status(0, "")])
    for message in MESSAGES:
        assert message != 1
        assert [other for other in MESSAGES if other == message] == [message]


def test_arrays_are_equal_when_their_bytes_are() -> None:
    def same(a: Any, b: Any) -> bool:
        return tw.Tensors([a]) == tw.Tensors([b])

    nan = np.array([np.nan, -0.0], ml_dtypes.bfloat16)
    assert same(nan, nan.copy())
    assert not same(np.float32(0.0), np.float32(-0.0))
    assert same(X.T, X.T.copy())
    assert same(np.zeros((0, 3)), np.zeros((0, 3)))
    assert not same(np.zeros((0, 3)), np.zeros((3, 0)))
    assert same(np.array([b"a", b"b\0"], object), np.array([b"a", b"b\0"], object))
    assert not same(np.array([b"a"], object), np.array(["a"], object))
    assert same([1, 2], np.array([1, 2]))


def test_hashes() -> None:
    for message in (SPEC, tw.Status(1, "a"), tw.Metadata("m", inputs=[SPEC]), tw.MetadataRequest()):
        assert hash(message) == hash(copy.deepcopy(message))
    for message in (request(), tw.Response(), tw.Tensors()):
        with pytest.raises(TypeError, match="unhashable"):
            hash(message)


def test_what_is_printed() -> None:
    assert [repr(message) for message in MESSAGES] == [
        "Request({'x': float32[2, 3], 'n': int64}, outputs=['y'], config='{}', model='m', version=3, "
        "label='stable', signature='s', id='i', deadline_ms=250)",
        "Request([])",
        "Request([float32[2, 3], string[2]])",
        "MetadataRequest()",
        "Response({'y': float32[2, 3]})",
        "Response([float32[2, 3]])",
        "Response(errors=[Status(-3, 'no')])",
        "Metadata('m', version='1', inputs=[TensorSpec('x', float32[-1, 3])], "
        "outputs=[TensorSpec('any', any[]), TensorSpec('s', string[])])",
        "TensorSpec('x', float32[-1, 3])",
        "Status(7, 'text')",
        "{'a': float32[2, 3]}",
        "[float32[2, 3], float]",
    ]
    assert repr(tw.encode(tw.Request([np.zeros(1000, "u1")]))) == "<Frame of 1,128 bytes in 2 buffers>"


# Pickling out of band


def out_of_band(message: Any) -> tuple[bytes, list[pickle.PickleBuffer]]:
    buffers: list[pickle.PickleBuffer] = []
    return pickle.dumps(message, 5, buffer_callback=buffers.append), buffers


@pytest.mark.parametrize("kind", [tw.Request, tw.Response])
def test_protocol_5_moves_no_data(kind: Any) -> None:
    x = np.arange(10_000, dtype="f8")
    stream, buffers = out_of_band(kind({"x": x}))
    assert len(stream) < 1000
    assert [np.frombuffer(each, "f8").ctypes.data for each in buffers] == [x.ctypes.data]
    again = pickle.loads(stream, buffers=buffers)
    assert again == kind({"x": x})
    [y] = (again.inputs if kind is tw.Request else again.outputs).values()
    assert np.shares_memory(x, y)


def test_protocol_5_of_a_decoded_message() -> None:
    buf = bytes(tw.encode(tw.Request({"x": np.arange(10_000, dtype="f8")}, ["y"])))
    decoded = tw.decode(buf, tw.Request)
    stream, buffers = out_of_band(decoded)
    again = pickle.loads(stream, buffers=buffers)
    assert again == decoded
    assert np.shares_memory(again.inputs["x"], np.frombuffer(buf, "u1"))


def test_protocol_5_of_types_that_numpy_lends() -> None:
    """numpy itself pickles the arrays of a dtype that is not its own within the stream."""
    x = np.arange(10_000).astype(ml_dtypes.bfloat16)
    stream, buffers = out_of_band(tw.Request([x]))
    assert (len(stream) > x.nbytes, buffers) == (True, [])
    assert pickle.loads(stream) == tw.Request([x])


def test_copies_share_and_deep_copies_do_not() -> None:
    message = request()
    assert np.shares_memory(copy.copy(message).inputs["x"], X)
    assert not np.shares_memory(copy.deepcopy(message).inputs["x"], X)


# Tensors


def test_tensors_by_name_and_position() -> None:
    tensors = tw.Tensors({"a": X, "b": 1.5})
    assert isinstance(tensors, Mapping)
    assert (tensors["a"] is X, tensors[0] is X, tensors[-1], len(tensors)) == (True, True, 1.5, 2)
    assert (tensors.names, list(tensors), tensors.keys()) == (("a", "b"), ["a", "b"], ("a", "b"))
    assert (tensors.values(), tensors.arrays) == ((X, 1.5), (X, 1.5))
    assert dict(tensors) == {"a": X, "b": 1.5}
    assert [name for name, _ in tensors.items()] == ["a", "b"]
    assert ("a" in tensors, "c" in tensors, tensors.get("c"), tensors.get("c", 3)) == (True, False, None, 3)
    with pytest.raises(KeyError, match="'c'"):
        tensors["c"]
    with pytest.raises(IndexError):
        tensors[2]
    with pytest.raises(TypeError):
        tensors["a"] = X  # type: ignore[index]


def test_tensors_without_names_are_named_by_position() -> None:
    tensors = tw.Tensors([X, 2])
    assert (tensors.names, list(tensors), tensors["1"]) == ((), ["0", "1"], 2)
    with pytest.raises(KeyError):
        tensors["x"]


def test_what_tensors_are_made_of() -> None:
    assert tw.Tensors(X).arrays == (X,)
    assert tw.Tensors(3).arrays == (3,)  # type: ignore[arg-type]
    assert tw.Tensors((1, 2)).arrays == (1, 2)
    assert tw.Tensors(tw.Tensors({"a": 1})).names == ("a",)
    assert len(tw.Tensors()) == 0
    with pytest.raises(TypeError, match="a tensor's name is a str, not int: 1"):
        tw.Tensors({1: X})  # type: ignore[dict-item]


# What messages refuse


def test_requests_refuse() -> None:
    with pytest.raises(TypeError, match="outputs is a sequence of names, not the one str 'y'"):
        tw.Request(outputs="y")
    with pytest.raises(TypeError, match="a tensor's name is a str, not bytes: b'y'"):
        tw.Request(outputs=[b"y"])  # type: ignore[list-item]
    with pytest.raises(ValueError, match="0 or more; got -1 and 0"):
        tw.Request(version=-1)
    with pytest.raises(ValueError, match="0 or more; got 0 and -5"):
        tw.Request(deadline_ms=-5)
    with pytest.raises(OverflowError):
        tw.Request(version=2**63)
    for name in ("config", "model", "label", "signature", "id"):
        wrong: Any = {name: None}
        with pytest.raises(TypeError):
            tw.Request(**wrong)
    with pytest.raises(AttributeError):
        tw.Request().model = "x"  # type: ignore[misc]


def test_responses_refuse() -> None:
    with pytest.raises(ValueError, match="outputs or errors, not both"):
        tw.Response([X], [tw.Status(1, "a")])
    with pytest.raises(TypeError, match="errors are Status objects, not str"):
        tw.Response(errors=["no"])  # type: ignore[list-item]
    with pytest.raises(OverflowError):
        tw.Status(2**63, "a")
    with pytest.raises(TypeError):
        tw.Status(1, None)  # type: ignore[arg-type]


def test_specs_and_metadata_refuse() -> None:
    with pytest.raises(ValueError, match=r"'x': a dimension is a size, or -1 for any; got \[2, -2\]"):
        tw.TensorSpec("x", "f4", [2, -2])
    with pytest.raises(TypeError, match="not tuple"):
        tw.Metadata(inputs=[("x", "f4")])  # type: ignore[list-item]
    with pytest.raises(tw.EncodeError, match=r"^'x': the wire has no type for dtype datetime64\[s\]$"):
        tw.encode(tw.Metadata(inputs=[tw.TensorSpec("x", "M8[s]")]))
    with pytest.raises(TypeError):
        tw.TensorSpec("x", "no such dtype")


def test_the_classes_are_final() -> None:
    for kind in (tw.Request, tw.Response, tw.Metadata, tw.Tensors, tw.TensorSpec, tw.Status, tw.Frame):
        with pytest.raises(TypeError, match="not an acceptable base type"):
            type("Sub", (kind,), {})
