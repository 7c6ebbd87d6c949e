"""Requests beside a model: which are run, what they hold, and what becomes of damaged ones."""

from __future__ import annotations

import asyncio
import struct
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import tf_models
from fake_models import FakeModel, Gate, Published, is_model, make_repository, write_version
from hypothesis import given
from hypothesis import strategies as st

import tensorwire as tw
from tensorwire.servers.model import Array, ModelError
from tensorwire.servers.repository import warmup
from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.loading import Loader
from tensorwire.servers.repository.prediction_log import read_prediction
from tensorwire.servers.repository.tfrecord import crc32c, read_records
from tensorwire.servers.repository.version import State

TFS = warmup.TFS_REQUESTS


class Recorder(FakeModel):
    """Remembers what it was asked."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.asked: list[list[float]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        self.asked.append(inputs["x"].tolist())
        return super().run(signature, inputs, outputs)


@pytest.fixture
def version(tmp_path: Path) -> Path:
    return write_version(tmp_path / "m", 1)


def load(version: Path, **fields: Any) -> Recorder:
    async def main() -> Any:
        loader = Loader(lambda path, config: Recorder(path), is_model)
        try:
            config = ModelConfig(name="m", path=str(version.parent), attempts=1, **fields)
            return (await loader.load(config, 1, version))[0]
        finally:
            loader.close()

    model: Recorder = asyncio.run(main())
    return model


# --- the messages, written by hand ------------------------------------------------------------------------------------


def varint(number: int) -> bytes:
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    return bytes([*found, number])


def part(number: int, data: bytes | int) -> bytes:
    """A field of a protobuf message."""
    if isinstance(data, int):
        return varint(number << 3) + varint(data)
    return varint(number << 3 | 2) + varint(len(data)) + data


def floats(*values: float, shape: Sequence[int] | None = None) -> bytes:
    """A TensorProto."""
    sizes = b"".join(part(2, part(1, size)) for size in (shape if shape is not None else [len(values)]))
    return part(1, 1) + part(2, sizes) + part(5, struct.pack(f"<{len(values)}f", *values))


def prediction(signature: str = "", *filters: str, **inputs: bytes) -> bytes:
    """A PredictionLog with a PredictLog."""
    request = part(1, part(1, b"m") + (part(3, signature.encode()) if signature else b""))
    for name, tensor in inputs.items():
        request += part(2, part(1, name.encode()) + part(2, tensor))
    return part(6, part(1, request + b"".join(part(3, name.encode()) for name in filters)))


def framed(*records: bytes) -> bytes:
    """A TFRecord file."""

    def masked(data: bytes) -> bytes:
        crc = slow_crc32c(data)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    heads = [struct.pack("<Q", len(record)) for record in records]
    return b"".join(h + masked(h) + r + masked(r) for h, r in zip(heads, records, strict=True))


def slow_crc32c(data: bytes) -> int:
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def put(version: Path, data: bytes) -> Path:
    file = version / TFS
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(data)
    return file


# --- what is run ------------------------------------------------------------------------------------------------------


def test_without_requests_zeros_are_made(version: Path) -> None:
    assert load(version).asked == [[0.0]]
    assert load(version, warm_up=False).asked == []


def test_saved_requests(version: Path) -> None:
    x = np.array([1, 2], np.float32)
    tw.save(version / "warmup.tw", tw.Request({"x": x}, ["y"]))
    tw.save(version / "warmup-2.tw", tw.Request([x * 2], signature="serving_default"))
    tw.save(version / "warmup-10.tw", tw.Request([x * 3]))
    assert load(version).asked == [[1, 2], [3, 6], [2, 4]]
    (version / "warmup.tw").write_bytes(b"")
    assert load(version, warm_up=False).asked == []


def test_requests_of_tensorflow_serving(version: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    classify, session = part(2, part(1, b"")), part(5, b"")
    put(version, framed(prediction(x=floats(1, 2)), classify, prediction("serving_default", "y", x=floats(3)), session))
    assert load(version).asked == [[1, 2], [3]]
    assert f"{version / TFS}: 2 records that are no Predict calls are left out" in caplog.text
    put(version, framed(classify))
    assert load(version).asked == [[0.0]]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (prediction(x=floats(1, shape=[1, 1])), "record 1: the warm-up failed: input 'x': "),
        (prediction(z=floats(1)), "record 1: the warm-up failed: "),
        (prediction("other", x=floats(1)), "record 1: the warm-up failed: the model has no signature 'other'"),
        (prediction("", "z", x=floats(1)), "record 1: the warm-up failed: "),
        (b"\xff" * 20, "record 1: no PredictionLog: "),
        (prediction(x=part(1, 20)), "record 1: input 'x': tensors of TensorFlow's type 20 are not supported"),
        (prediction(x=part(1, 1) + part(2, part(3, 1))), "its rank is unknown"),
        (prediction(x=part(1, 1) + part(2, part(2, part(1, 2**64 - 1)))), "the shape [-1] is no tensor's"),
        (prediction(x=floats(1, shape=[1] * 33)), "is no tensor's"),
        (prediction(x=floats(1, 2, shape=[1])), "2 values for 1 elements"),
        (prediction(x=floats(1, shape=[2**31, 2**31])), "at most 16,777,216 are filled up"),
        (prediction(x=floats(shape=[2]) + part(4, b"12345")), "shape [2] float32 needs 8 bytes, has 5"),
        (prediction(x=part(1, 8) + part(9, b"1234")), "1 numbers are no pairs of real and imaginary parts"),
        (prediction(x=part(1, 4) + part(7, 256)), "input 'x': "),
        (prediction(x=part(1, 7) + part(4, b"1")), "strings are expected in string_val"),
    ],
)
def test_a_request_that_is_not_answered_breaks_the_version(version: Path, record: bytes, reason: str) -> None:
    put(version, framed(record))
    with pytest.raises(ModelError) as caught:
        load(version)
    told = str(caught.value)
    assert told.startswith(f"{version / TFS}: record 1: ") and reason in told and "\n" not in told


def test_saved_messages_that_are_no_requests(version: Path) -> None:
    file = version / "warmup.tw"
    for data, reason in ((b"", "no request saved"), (b"no message", "no request saved")):
        file.write_bytes(data)
        with pytest.raises(ModelError, match=reason):
            load(version)
    tw.save(file, tw.MetadataRequest())
    with pytest.raises(ModelError, match="not one for metadata"):
        load(version)
    file.unlink()
    file.mkdir()
    assert load(version).asked == [[0.0]]


def test_the_number_and_size_of_requests_are_limited(version: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    put(version, framed(*[part(5, b"")] * 1000, b""))
    with pytest.raises(ModelError, match="more than 1,000 records"):
        load(version)
    put(version, framed(*[prediction(x=floats(1))] * 1000))
    assert len(load(version).asked) == 1000
    tw.save(version / "warmup.tw", tw.Request([np.zeros(1, np.float32)]))
    with pytest.raises(ModelError, match="more than 1,000 requests"):
        load(version)
    monkeypatch.setattr(warmup, "_LARGEST_FILE", 10)
    with pytest.raises(ModelError, match="larger than 10 bytes"):
        load(version)


def test_a_version_that_fails_at_its_requests_leaves_the_old_one_serving(version: Path) -> None:
    async def main() -> None:
        published, gate = Published(), Gate()
        config = ModelConfig(name="m", path=str(version.parent), settle=0, attempts=1)
        repository = make_repository(gate, published, config)
        repository.start()
        await repository.settled()
        put(write_version(version.parent / "away", 2), framed(prediction(z=floats(1))))
        (version.parent / "away" / "2").rename(version.parent / "2")
        await repository.reload("m")
        broken = repository.models["m"].versions[2]
        assert broken.state is State.END and "the warm-up failed" in broken.error
        assert published.versions() == [1]
        await repository.close()
        assert [model.closed for model in gate.loaded] == [1] * len(gate.loaded)

    asyncio.run(main())


# --- the file ---------------------------------------------------------------------------------------------------------


@given(st.binary(max_size=2000))
def test_crc(data: bytes) -> None:
    assert crc32c(data) == slow_crc32c(data)


def test_crc_of_the_standard() -> None:
    """The examples of RFC 3720, appendix B.4."""
    assert crc32c(bytes(32)) == 0x8A9136AA
    assert crc32c(b"\xff" * 32) == 0x62A8AB43
    assert crc32c(bytes(range(32))) == 0x46DD794E
    assert zlib.crc32(b"123456789") != crc32c(b"123456789") == 0xE3069283


def test_every_damage_to_a_file_is_found(tmp_path: Path) -> None:
    file = tmp_path / "f"
    whole = framed(b"one", b"", b"x" * 300)
    file.write_bytes(whole)
    assert list(read_records(file)) == [b"one", b"", b"x" * 300]
    for end in range(1, len(whole)):
        file.write_bytes(whole[:end])
        if end in (len(framed(b"one")), len(framed(b"one", b""))):
            continue
        with pytest.raises(ModelError, match="cut short"):
            list(read_records(file))
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 0x10]) + whole[place + 1 :])
        with pytest.raises(ModelError, match="damaged"):
            list(read_records(file))
    for length, reason in ((2**30 + 1, "over the limit"), (2**64 - 1, "over the limit"), (2**20, "cut short")):
        head = framed(struct.pack("<Q", length))[12:24]
        file.write_bytes(head)
        with pytest.raises(ModelError, match=reason):
            list(read_records(file))


@given(st.binary(max_size=200))
def test_any_bytes_are_a_request_or_refused(data: bytes) -> None:
    for record in (data, prediction(x=data), part(6, part(1, data))):
        try:
            found = read_prediction(record)
        except ValueError:
            continue
        assert found is None or isinstance(found, tw.Request)


# --- TensorFlow's own -------------------------------------------------------------------------------------------------


@pytest.mark.skipif(not tf_models.HERE, reason="TensorFlow is not installed")
def test_files_and_tensors_of_tensorflow(tmp_path: Path) -> None:
    tf = tf_models.tensorflow()
    kinds = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16, np.complex64, np.complex128, np.bool_]
    kinds += [np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64]
    arrays = [np.array([[0, 1, 2], [3, 100, 1]]).astype(kind) for kind in kinds]
    arrays += [np.array([b"a\0", b""], object), np.array(b"scalar", object), np.float32(3), np.zeros((0, 3))]
    protos = [tf.make_tensor_proto(array) for array in arrays]
    # One value at a time, as TensorProtos of other languages are.
    for array in arrays:
        proto = tf.make_tensor_proto(array)
        if proto.tensor_content:
            proto.ClearField("tensor_content")
            field = {np.float16: "half_val", ml_dtypes.bfloat16: "half_val"}.get(array.dtype.type)
            if field:
                proto.half_val.extend(array.view(np.uint16).ravel().tolist())
            else:
                proto = type(proto)(dtype=proto.dtype, tensor_shape=proto.tensor_shape)
                proto.MergeFrom(by_value(proto, array))
        protos.append(proto)
    file = tmp_path / "f"
    with tf.io.TFRecordWriter(str(file)) as writer:
        for proto in protos:
            writer.write(prediction(x=proto.SerializeToString()))
    records = list(read_records(file))
    assert len(records) == 2 * len(arrays)
    for record, array in zip(records, arrays * 2, strict=True):
        request = read_prediction(record)
        assert request is not None
        found = request.inputs["x"]
        assert found.dtype == array.dtype and found.shape == array.shape
        assert found.tolist() == array.tolist()
    # The last value stands for those that follow.
    proto = tf.make_tensor_proto(7, tf.int32, shape=[2, 2])
    request = read_prediction(prediction(x=proto.SerializeToString()))
    assert request is not None and request.inputs["x"].tolist() == tf.make_ndarray(proto).tolist() == [[7, 7], [7, 7]]
    text = part(1, 7) + part(2, part(2, part(1, 3))) + part(8, b"a\0")
    request = read_prediction(prediction(x=text))
    assert request is not None and request.inputs["x"].tolist() == [b"a\0"] * 3


def by_value(proto: Any, array: Any) -> Any:
    """The values of an array in the fields for single ones."""
    found = type(proto)()
    flat = array.ravel()
    if array.dtype.kind == "c":
        field = "scomplex_val" if array.dtype == np.complex64 else "dcomplex_val"
        flat = np.stack([flat.real, flat.imag], -1).ravel()
    else:
        field = {"float32": "float_val", "float64": "double_val", "bool": "bool_val"}.get(array.dtype.name, "")
        field = field or (f"{array.dtype.name}_val" if array.dtype.name in ("int64", "uint32", "uint64") else "int_val")
    getattr(found, field).extend(flat.tolist())
    return found


@pytest.mark.skipif(not tf_models.HERE, reason="TensorFlow is not installed")
def test_a_saved_model_is_warmed_up_with_its_own_requests(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    tf = tf_models.tensorflow()
    spec = tf.TensorSpec([None], tf.float32, name="x")
    folder = tf_models.saved(
        tmp_path / "1", serving_default=tf.function(lambda x: {"y": 2 * x}, input_signature=[spec])
    )
    put(folder, framed(prediction("serving_default", "y", x=floats(1, 2))))
    caplog.set_level("INFO", "tensorwire.repository")
    model = tf_models.load(folder)
    warmup.warm_up(model, folder, folder)
    assert "warmed up with the requests beside it: 1" in caplog.text
    put(folder, framed(prediction("serving_default", "y", w=floats(1, 2))))
    with pytest.raises(ModelError, match="the warm-up failed"):
        warmup.warm_up(model, folder, folder)
    model.close()
