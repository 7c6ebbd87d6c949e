"""The original graphpipe package reads what we write, and we read what it writes; so do its recorded messages."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import meaning
import numpy as np
import oracle
import pytest
from flatbuffers.builder import Builder
from hypothesis import given
from oracle import Message
from strategies import unhurried, valid_messages

import tensorwire as tw

DATA = os.environ.get("TENSORWIRE_TEST_DATA")

original = pytest.importorskip("graphpipe.convert", reason="the original graphpipe package is not installed")


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The original's converter with the builder that it was written for: EndVector wrote the length it was passed."""
    end_vector = Builder.EndVector

    def end_vector_of_1_12(builder: Any, length: int | None = None) -> int:
        if length is not None:
            builder.vectorNumElems = length
        return int(end_vector(builder))

    monkeypatch.setattr(Builder, "EndVector", end_vector_of_1_12)
    return original


def text(read: bytes | None) -> str:
    return (read or b"").decode()


# It reads ours


@unhurried
@given(valid_messages("InferRequest"))
def test_it_reads_our_requests(message: Message) -> None:
    """All fields that it knows; the appended ones, which half of these messages have, are nothing to it."""
    message = message | {"input_tensors": [t for t in message.get("input_tensors", []) if t["type"] <= 12]}
    message["input_names"] = message.get("input_names", [])[: len(message["input_tensors"])]
    expected = oracle.blank("InferRequest") | message
    read = original.deserialize_request(bytes(tw.encode(meaning.message_from(message))))
    assert text(read.config) == expected["config"]
    assert [text(each) for each in read.input_names] == expected["input_names"]
    assert [text(each) for each in read.output_names] == expected["output_names"]
    assert_same_arrays(read.input_tensors, expected["input_tensors"])


def assert_same_arrays(arrays: Any, tensors: list[Message]) -> None:
    assert len(arrays) == len(tensors)
    for array, tensor in zip(arrays, tensors, strict=True):
        assert list(array.shape) == tensor["shape"]
        if tensor["type"] == oracle.STRING:
            # It makes fixed-width strings, where trailing NULs cannot be told from padding.
            assert array.ravel().tolist() == [each.rstrip(b"\0") for each in tensor["strings"]]
        else:
            assert array.dtype == oracle.WIRE_TYPES[tensor["type"]]
            assert array.tobytes() == tensor["data"]


def test_it_reads_every_appended_field_as_nothing() -> None:
    x = np.arange(6, dtype="f4").reshape(2, 3)
    plain = tw.Request({"x": x}, ["y"], config="c")
    full = tw.Request(
        {"x": x},
        ["y"],
        config="c",
        model="m",
        version=2,
        label="l",
        signature="s",
        id="i",
        deadline_ms=9,
    )
    for request in (plain, full):
        read = original.deserialize_request(bytes(tw.encode(request)))
        assert (read.config, read.input_names, read.output_names) == (b"c", [b"x"], [b"y"])
        np.testing.assert_array_equal(read.input_tensors, [x])
    assert bytes(tw.encode(plain)) != bytes(tw.encode(full))


def test_it_reads_our_responses_and_metadata() -> None:
    arrays = [np.arange(3.0), np.array([b"a", b"bc"], object), np.zeros((0, 2), "i4"), np.array(7, "u1")]
    tensors, errors = original.deserialize_infer_response(bytes(tw.encode(tw.Response({"a": arrays[0]}))))
    assert_same_arrays(tensors, [oracle.as_tensor(arrays[0])])
    assert errors == []
    tensors, errors = original.deserialize_infer_response(bytes(tw.encode(tw.Response(arrays))))
    assert_same_arrays(tensors, [oracle.as_tensor(array) for array in arrays])
    refusal = tw.Response(errors=[tw.Status(-7, "démo"), tw.Status(1, "")])
    tensors, errors = original.deserialize_infer_response(bytes(tw.encode(refusal)))
    assert (tensors, [(each["code"], text(each["message"])) for each in errors]) == (
        [],
        [(-7, "démo"), (1, "")],
    )

    spec = tw.TensorSpec("x", np.float32, [-1, 3], "d")
    metadata = tw.Metadata("n", "v", "s", "t", [spec], [tw.TensorSpec("s", object), spec])
    read = original.deserialize_metadata_response(bytes(tw.encode(metadata)))
    assert (read.Name(), read.Version(), read.Server(), read.Description()) == (b"n", b"v", b"s", b"t")
    assert (read.InputsLength(), read.OutputsLength()) == (1, 2)
    found = read.Outputs(1)
    assert (found.Name(), found.Description(), found.Type()) == (b"x", b"d", 10)
    assert found.ShapeAsNumpy().tolist() == [-1, 3]
    assert read.Outputs(0).Type() == 12
    probe = original.Request.Request.GetRootAsRequest(bytes(tw.encode(tw.MetadataRequest())), 0)
    assert probe.ReqType() == original.Req.MetadataRequest


# We read its


@pytest.mark.parametrize("dtype", [oracle.WIRE_TYPES[wire] for wire in range(1, 12)], ids=str)
def test_we_read_its_requests(convert: Any, dtype: np.dtype[Any]) -> None:
    arrays = [np.arange(6).astype(dtype).reshape(2, 3), np.zeros((0, 4), dtype), np.array(3, dtype)]
    arrays.append(arrays[0].T)
    names = ["x", "é", "", "last"]
    buf = convert.serialize_infer_request(convert.InferReq("{}", arrays, names, ["y"]))
    assert tw.decode(buf, tw.Request) == tw.Request(dict(zip(names, arrays, strict=True)), ["y"], config="{}")


def test_we_read_its_strings_and_replies(convert: Any) -> None:
    strings = np.array([[b"a\0b\0", b""], ["é", "text"]], object)
    buf = convert.serialize_infer_request(convert.InferReq(None, [strings]))
    got = tw.decode(buf, tw.Request).inputs[0]
    assert got.tolist() == [[b"a\0b\0", b""], ["é".encode(), b"text"]]

    arrays = [np.arange(6).reshape(2, 3), np.array([b"a", b"b"], object)]
    assert tw.decode(convert.serialize_infer_response(arrays), tw.Response) == tw.Response(arrays)
    assert tw.decode(convert.serialize_infer_response(None), tw.Response) == tw.Response()
    assert tw.decode(convert.serialize_metadata_request()) == tw.MetadataRequest()

    specs = [
        {"name": "x", "description": "d", "shape": [-1, 3], "type": np.dtype("f4")},
        {"name": "s", "shape": [], "type": np.dtype("O")},
    ]
    buf = convert.serialize_metadata_response({"name": "m", "inputs": specs, "outputs": specs[:1]})
    x, s = tw.TensorSpec("x", "f4", [-1, 3], "d"), tw.TensorSpec("s", object)
    # It writes both lists from their end to their start.
    assert tw.decode(buf, tw.Metadata) == tw.Metadata("m", inputs=[s, x], outputs=[x])


# Messages recorded from it


@pytest.mark.skipif(not DATA, reason="TENSORWIRE_TEST_DATA does not name a folder of test data")
def test_we_read_recorded_messages() -> None:
    folder = Path(DATA or "") / "graphpipe" / "wire_vectors"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["file"] for entry in manifest} == {path.name for path in folder.glob("*.bin")}
    for entry in manifest:
        expected = recorded(entry)
        buf = (folder / entry["file"]).read_bytes()
        assert (entry["file"], tw.decode(buf, type(expected))) == (entry["file"], expected)
        assert tw.decode(bytes(tw.encode(expected)), type(expected)) == expected


def recorded(entry: Message) -> Any:
    arrays = [recorded_array(tensor) for tensor in entry.get("tensors", [])]
    match entry["message"]:
        case "Request/InferRequest":
            names = entry["input_names"]
            inputs: Any = dict(zip(names, arrays, strict=True)) if names else arrays
            return tw.Request(inputs, entry["output_names"], config=entry["config"])
        case "Request/MetadataRequest":
            return tw.MetadataRequest()
        case "InferResponse":
            return tw.Response(arrays, [tw.Status(each["code"], each["message"]) for each in entry["errors"]])
        case "MetadataResponse":
            given = dict(entry["metadata"])
            for key in ("inputs", "outputs"):
                # The manifest has the order that the original was given, which it writes from its end.
                given[key] = [recorded_spec(spec) for spec in reversed(given[key])]
            return tw.Metadata(**given)
    raise AssertionError(f"{entry['file']}: a message of an unknown kind, {entry['message']}")


def recorded_array(tensor: Message) -> np.ndarray[Any, Any]:
    if tensor["type"] == "String":
        array = np.empty(len(tensor["hex"]), object)
        array[:] = [bytes.fromhex(each) for each in tensor["hex"]]
    else:
        array = np.frombuffer(bytes.fromhex(tensor["hex"]), tensor["type"])
    return array.reshape(tensor["shape"])


def recorded_spec(spec: Message) -> tw.TensorSpec:
    dtype = object if spec["type"] == "String" else spec["type"]
    return tw.TensorSpec(spec["name"], dtype, spec["shape"], spec.get("description", ""))
