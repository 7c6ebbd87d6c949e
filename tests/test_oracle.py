"""The oracle against the original `graphpipe` package, recorded messages, flatc, and itself."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from contextlib import nullcontext, suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
from flatbuffers.builder import Builder
from hypothesis import given
from hypothesis import strategies as st
from oracle import Layout, Message
from strategies import layouts, messages, unhurried

SCHEMA = Path(__file__).parents[1] / "schema" / "graphpipe.fbs"
DATA = os.environ.get("TENSORWIRE_TEST_DATA")

REQUEST = oracle.blank("InferRequest")
RESPONSE = oracle.blank("InferResponse")
METADATA = oracle.blank("MetadataResponse")

# The oracle reads what it writes


@unhurried
@given(messages("InferRequest"), layouts)
def test_request_round_trip(message: Message, layout: Layout) -> None:
    buf = oracle.build_request(message, layout)
    read = oracle.read_request(buf)
    assert oracle.without_offsets(read) == REQUEST | message
    for tensor in read["input_tensors"]:
        start = tensor.get("data_offset", 0)
        assert start % max(4, layout.data_alignment) == 0
        if start:
            assert buf[start : start + len(tensor["data"])] == tensor["data"]


@unhurried
@given(messages("InferResponse"), layouts)
def test_infer_response_round_trip(message: Message, layout: Layout) -> None:
    read = oracle.read_infer_response(oracle.build_infer_response(message, layout))
    assert oracle.without_offsets(read) == RESPONSE | message


@unhurried
@given(messages("MetadataResponse"), layouts)
def test_metadata_response_round_trip(message: Message, layout: Layout) -> None:
    read = oracle.read_metadata_response(oracle.build_metadata_response(message, layout))
    assert read == METADATA | message


@unhurried
@given(layouts)
def test_metadata_request_round_trip(layout: Layout) -> None:
    assert oracle.read_request(oracle.build_metadata_request(layout)) == {"message": "MetadataRequest"}


def test_layouts_change_the_bytes_and_not_the_meaning() -> None:
    tensor = oracle.as_tensor(np.arange(5, dtype=np.float64))
    message = REQUEST | {"input_names": ["x", "x"], "input_tensors": [tensor, tensor], "config": "c"}
    plain = oracle.build_request(message)

    def size(**layout: Any) -> int:
        buf = oracle.build_request(message, Layout(**layout))
        assert buf != plain
        assert oracle.without_offsets(oracle.read_request(buf)) == message
        return len(buf)

    assert size(order={"InferRequest": ["input_tensors", "config"], "Tensor": ["data"]}) == len(plain)
    assert size(omit_empty=False) > len(plain)
    assert size(force_defaults=True) > len(plain)
    assert size(share_strings=True) < len(plain)
    assert size(share_vtables=False) > len(plain)
    assert size(data_alignment=64) > len(plain)
    assert size(unknown_fields=1) > len(plain)


@pytest.mark.parametrize("wire", oracle.WIRE_TYPES)
def test_arrays_of_every_dtype(wire: int) -> None:
    array = np.array([[0, 1], [1, 0]]).astype(oracle.WIRE_TYPES[wire])
    tensor = oracle.as_tensor(array)
    assert (tensor["type"], tensor["shape"], len(tensor["data"])) == (wire, [2, 2], 4 * array.itemsize)
    copy = oracle.as_array(tensor)
    assert copy.dtype == array.dtype
    np.testing.assert_array_equal(copy, array)


def test_big_endian_and_string_arrays() -> None:
    assert oracle.as_tensor(np.array(1, ">i4")) == {"type": 6, "shape": [], "data": b"\1\0\0\0"}
    tensor = oracle.as_tensor(np.array([["é", b"a\0"]], object))
    assert tensor == {"type": 12, "shape": [1, 2], "strings": ["é".encode(), b"a\0"]}
    assert oracle.as_array(tensor).tolist() == [["é".encode(), b"a\0"]]


# The oracle refuses what is not a message


@unhurried
@given(messages("InferRequest"), layouts, st.data())
def test_damaged_bytes_read_or_raise_value_error(
    message: Message, layout: Layout, data: st.DataObject
) -> None:
    buf = bytearray(oracle.build_request(message, layout))
    for place in data.draw(st.lists(st.integers(0, len(buf) - 1), max_size=3)):
        buf[place] = data.draw(st.integers(0, 255))
    del buf[data.draw(st.integers(0, len(buf))) :]
    for read in (oracle.read_request, oracle.read_infer_response, oracle.read_metadata_response):
        with suppress(ValueError):
            read(buf)


@pytest.mark.parametrize(
    ("buf", "reason"),
    [
        (b"", "leaves the 0 byte message"),
        (bytes(3), "leaves the 3 byte message"),
        (bytes.fromhex("04000000 04000000 04000400"), "no known request"),
        (oracle.build_infer_response({}), "no known request"),
        (oracle.build_request({"config": "abc"})[:-2], "3 elements of 1 bytes at 40 leave the message"),
    ],
)
def test_not_a_request(buf: bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        oracle.read_request(buf)


# The original package


@pytest.fixture
def convert(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the original's converter the builder that it was written for.

    Up to flatbuffers 1.12, EndVector wrote the length that it was passed; today's warns of it and writes the
    one that StartVector was passed. For errors the original passes StartVector a wrong one.
    """
    end_vector = Builder.EndVector

    def end_vector_of_1_12(builder: Any, length: int | None = None) -> int:
        if length is not None:
            builder.vectorNumElems = length
        return int(end_vector(builder))

    monkeypatch.setattr(Builder, "EndVector", end_vector_of_1_12)
    return pytest.importorskip("graphpipe.convert")


@pytest.mark.parametrize("shape", [(2, 3), (0, 4), ()])
@pytest.mark.parametrize("dtype", [oracle.WIRE_TYPES[wire] for wire in range(1, 12)], ids=str)
def test_reads_the_original_request(convert: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    array = np.arange(prod(shape)).astype(dtype).reshape(shape)
    buf = convert.serialize_infer_request(convert.InferReq("{}", [array, array.T], ["x", "é"], ["y"]))
    tensors = [oracle.as_tensor(array), oracle.as_tensor(array.T)]
    expected = REQUEST | {"config": "{}", "input_names": ["x", "é"], "output_names": ["y"]}
    assert oracle.without_offsets(oracle.read_request(buf)) == expected | {"input_tensors": tensors}


def test_reads_the_original_strings(convert: Any) -> None:
    strings = np.array([[b"a\0b\0", b""], ["é", "text"]], object)
    for array in (strings, np.array(["é", ""]), np.array([b"a", b"bc"]), np.array([], object)):
        buf = convert.serialize_infer_request(convert.InferReq(None, [array]))
        assert oracle.read_request(buf)["input_tensors"] == [oracle.as_tensor(array)]


def test_reads_the_original_responses(convert: Any) -> None:
    arrays = [np.arange(6).reshape(2, 3), np.array(["a", "b"])]
    read = oracle.read_infer_response(convert.serialize_infer_response(arrays))
    assert oracle.without_offsets(read) == RESPONSE | {"output_tensors": [*map(oracle.as_tensor, arrays)]}
    assert oracle.read_infer_response(convert.serialize_infer_response(None)) == RESPONSE


def test_reads_the_original_metadata_messages(convert: Any) -> None:
    assert oracle.read_request(convert.serialize_metadata_request()) == {"message": "MetadataRequest"}
    specs = [
        {"name": "x", "description": "d", "shape": [-1, 3], "type": np.dtype("f4")},
        {"name": "s", "shape": [], "type": np.dtype("O")},
    ]
    buf = convert.serialize_metadata_response({"name": "m", "inputs": specs, "outputs": specs[:1]})
    x: Message = {"name": "x", "description": "d", "shape": [-1, 3], "type": 10}
    s: Message = {"name": "s", "description": "", "shape": [], "type": 12}
    # The original writes both lists from their end to their start.
    expected = METADATA | {"name": "m", "inputs": [s, x], "outputs": [x]}
    assert oracle.read_metadata_response(buf) == expected


@pytest.mark.filterwarnings("ignore:numElems is deprecated")
def test_original_response_of_a_newer_flatbuffers_is_malformed() -> None:
    """It claims one error for each tensor, and the vector before it is read as their offsets."""
    convert = pytest.importorskip("graphpipe.convert")
    buf = convert.serialize_infer_response([np.arange(4, dtype=np.float32)])
    with pytest.raises(ValueError, match="leaves the 96 byte message"):
        oracle.read_infer_response(buf)
    with pytest.raises(TypeError):
        convert.deserialize_infer_response(buf)


@unhurried
@given(messages("InferRequest"), layouts)
def test_the_original_reads_the_request(message: Message, layout: Layout) -> None:
    """Appended fields are nothing to it; but it needs the vectors of a tensor even where they are empty."""
    convert = pytest.importorskip("graphpipe.convert")
    message = message | {"input_tensors": [t for t in message.get("input_tensors", []) if t["type"] <= 12]}
    buf = oracle.build_request(message, replace(layout, omit_empty=False))
    read = convert.deserialize_request(buf)
    expected = REQUEST | message
    assert read.config.decode() == expected["config"]
    for key in ("input_names", "output_names"):
        assert [name.decode() for name in getattr(read, key)] == expected[key]
    for array, tensor in zip(read.input_tensors, expected["input_tensors"], strict=True):
        assert list(array.shape) == tensor["shape"]
        if tensor["type"] == oracle.STRING:
            # It makes an array of fixed-width strings, where trailing NULs cannot be told from padding.
            assert array.ravel().tolist() == [each.rstrip(b"\0") for each in tensor["strings"]]
        else:
            assert array.dtype == oracle.WIRE_TYPES[tensor["type"]]
            assert array.tobytes() == tensor["data"]


@pytest.mark.parametrize(
    ("tensor", "failure"),
    [
        ({"type": 11, "shape": [], "data": bytes(8)}, None),
        ({"type": 11, "data": bytes(8)}, ValueError),
        ({"type": 11, "shape": [0], "data": b""}, None),
        ({"type": 11, "shape": [0]}, AttributeError),
        ({"type": 13, "shape": [1], "data": b"\1"}, KeyError),
    ],
)
def test_what_the_original_cannot_read(tensor: Message, failure: type[Exception] | None) -> None:
    convert = pytest.importorskip("graphpipe.convert")
    buf = oracle.build_request({"input_tensors": [tensor]}, Layout(omit_empty=False))
    with pytest.raises(failure) if failure else nullcontext():
        assert convert.deserialize_request(buf).input_tensors[0].shape == tuple(tensor["shape"])


def test_the_original_reads_errors_and_metadata() -> None:
    convert = pytest.importorskip("graphpipe.convert")
    error = {"code": -7, "message": "démo"}
    buf = oracle.build_infer_response({"errors": [error], "output_names": ["y"]})
    assert convert.deserialize_infer_response(buf) == ([], [{"code": -7, "message": "démo".encode()}])

    spec = {"name": "x", "shape": [-1, 3], "type": 10}
    buf = oracle.build_metadata_response({"server": "s", "inputs": [spec]})
    read = convert.deserialize_metadata_response(buf)
    assert (read.Server(), read.Name(), read.OutputsLength()) == (b"s", b"", 0)
    assert (read.Inputs(0).Name(), read.Inputs(0).Type()) == (b"x", 10)
    assert read.Inputs(0).ShapeAsNumpy().tolist() == [-1, 3]


# Messages recorded from the original package


@pytest.mark.skipif(not DATA, reason="TENSORWIRE_TEST_DATA does not name a folder of test data")
def test_recorded_messages() -> None:
    folder = Path(DATA or "") / "graphpipe" / "wire_vectors"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert {entry["file"] for entry in manifest} == {path.name for path in folder.glob("*.bin")}
    for entry in manifest:
        read, expected = recorded(entry)
        found = oracle.without_offsets(read((folder / entry["file"]).read_bytes()))
        assert (entry["file"], found) == (entry["file"], expected)


def recorded(entry: Message) -> tuple[Any, Message]:
    """The reader for a manifest's entry, and what it is to read."""
    tensors = [recorded_tensor(tensor) for tensor in entry.get("tensors", [])]
    match entry["message"]:
        case "Request/InferRequest":
            given = {key: entry[key] for key in ("config", "input_names", "output_names")}
            return oracle.read_request, REQUEST | given | {"input_tensors": tensors}
        case "Request/MetadataRequest":
            return oracle.read_request, {"message": "MetadataRequest"}
        case "InferResponse":
            expected = RESPONSE | {"output_tensors": tensors, "errors": entry["errors"]}
            return oracle.read_infer_response, expected
        case "MetadataResponse":
            expected = METADATA | entry["metadata"]
            for key in ("inputs", "outputs"):
                # The manifest has the order that the original was given, which it writes from its end.
                specs = reversed(expected[key])
                expected[key] = [{"description": "", **x, "type": wire_type(x["type"])} for x in specs]
            return oracle.read_metadata_response, expected
    raise AssertionError(f"{entry['file']}: a message of an unknown kind, {entry['message']}")


def recorded_tensor(tensor: Message) -> Message:
    read: Message = {"type": wire_type(tensor["type"]), "shape": tensor["shape"]}
    if read["type"] == oracle.STRING:
        return read | {"strings": [bytes.fromhex(each) for each in tensor["hex"]]}
    return read | {"data": bytes.fromhex(tensor["hex"])}


def wire_type(name: str) -> int:
    return oracle.STRING if name == "String" else {str(v): k for k, v in oracle.WIRE_TYPES.items()}[name]


# The schema


def test_schema_and_oracle_agree() -> None:
    schema = re.sub(r"//.*", "", SCHEMA.read_text())
    schema = schema.replace("req:Req;", "req_type:uint8; req:table;")
    found = {
        name: dict(re.findall(r"(\w+):([\w\[\]]+);", body))
        for name, body in re.findall(r"\btable (\w+) \{(.*?)\}", schema, re.DOTALL)
    }
    assert found == oracle.TABLES
    for name, fields in found.items():
        assert list(fields) == list(oracle.TABLES[name])

    [types] = re.findall(r"enum Type:uint8 \{(.*?)\}", schema, re.DOTALL)
    wire = {name: value for value, name in enumerate(re.findall(r"\w+", types))}
    assert (wire.pop("Null"), wire.pop("String")) == (0, oracle.STRING)
    assert {value: name.lower().replace("float8", "float8_") for name, value in wire.items()} == {
        value: str(dtype) for value, dtype in oracle.WIRE_TYPES.items()
    }
    [members] = re.findall(r"union Req \{(.*?)\}", schema, re.DOTALL)
    assert {name: value for value, name in enumerate(re.findall(r"\w+", members), 1)} == oracle.REQUESTS


@pytest.mark.skipif(not shutil.which("flatc"), reason="flatc, the flatbuffers compiler, is not installed")
def test_flatc_writes_and_reads_the_same(tmp_path: Path) -> None:
    """What flatc makes of the schema and JSON, the oracle reads; what the oracle writes, flatc reads."""
    fields: Message = {"config": "{}", "input_names": ["x", "é"], "output_names": ["y"]}
    fields |= {"model_name": "m", "model_version": -3, "model_label": "stable", "signature": "s"}
    fields |= {"request_id": "r", "deadline_ms": 2**53 + 1}
    tensor = {"type": 18, "shape": [2], "data": b"\0\xff"}
    strings = {"type": 12, "shape": [1], "strings": [b"abc"]}
    as_json = {"type": "Float8E5M2", "shape": [2], "data": [0, 255]}
    strings_as_json = {"type": "String", "shape": [1], "string_val": ["abc"]}
    request = {"req_type": "InferRequest", "req": {**fields, "input_tensors": [as_json, strings_as_json]}}
    expected = REQUEST | fields | {"input_tensors": [tensor, strings]}

    def flatc(*arguments: str) -> None:
        subprocess.run(["flatc", *arguments], cwd=tmp_path, check=True, capture_output=True, timeout=30)

    (tmp_path / "written.json").write_text(json.dumps(request))
    flatc("--binary", str(SCHEMA), "written.json")
    assert oracle.without_offsets(oracle.read_request((tmp_path / "written.bin").read_bytes())) == expected

    (tmp_path / "read.bin").write_bytes(oracle.build_request(expected, Layout(data_alignment=64)))
    flatc("--json", "--strict-json", "--raw-binary", str(SCHEMA), "--", "read.bin")
    assert json.loads((tmp_path / "read.json").read_text()) == request
