"""ONNX files: what they say of themselves, data beside them, old opsets, and what is no model."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

import onnx
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper
from onnx_models import ELEMENT, save, tensor

from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines import ort as engine
from tensorwire.servers.engines.ort.facts import is_onnx, read_onnx
from tensorwire.servers.model import Model, ModelError, RequestError

FLOAT = ELEMENT.FLOAT
X = np.arange(6, dtype=np.float32).reshape(2, 3)
OLD = Path("simple_tensorflow_serving/onnx_mnist_model/onnx_model.proto")


def load(path: Path, **options: Any) -> Model:
    return engine.ENGINE.load(path, options=options)


def relu(folder: Path, **fields: Any) -> Path:
    return save(folder, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)], **fields)


def test_the_facts_are_those_that_onnx_reads(tmp_path: Path) -> None:
    described = tensor("x", FLOAT, ("n", 3))
    described.doc_string = "rows of\nthree"
    answer = tensor("y", FLOAT, ("n", 4))
    identity = [helper.make_node("Identity", ["a"], ["b"])]
    answer.doc_string = "the sums"
    path = save(
        tmp_path,
        [("MatMul", ["x", "w"], ["h"]), ("Add", ["h", "b"], ["y"])],
        [described],
        [answer],
        constants={"w": np.ones((3, 4), np.float32), "b": np.ones(4, np.float32)},
        domains=[("ai.onnx.ml", 3), ("f", 1)],
        producer_name="us",
        producer_version="7.1",
        functions=[helper.make_function("f", "F", ["a"], ["b"], identity, [helper.make_opsetid("", 18)])],
    )
    model = onnx.load(str(path))
    helper.set_model_props(model, {"names": "a, b\nc", "long": "x" * 5000})
    path.write_bytes(model.SerializeToString())
    loaded = load(path)
    facts = dict(loaded.facts)
    assert facts.pop("property long") == "x" * 500 + "..."
    assert facts == {
        "IR version": "9",
        "producer": "us 7.1",
        "opset": "18, 3 of ai.onnx.ml, 1 of f",
        "functions": "1",
        "parameters": "16",
        "property names": "a, b c",
    }
    signature = loaded.signatures[loaded.default_signature]
    assert signature.inputs[0].description == "rows of three"
    assert signature.outputs[0].description == "the sums"


def test_what_is_no_file_of_onnx_has_no_facts(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    assert read_onnx(path) is None
    path.write_bytes(b"\xff" * 100)
    assert read_onnx(path) is None


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_a_crash(data: bytes) -> None:
    read_onnx(data)
    read_onnx(DIGITS.read_bytes()[:100] + data)


@given(st.integers(0, 3000), st.binary(min_size=1, max_size=8))
def test_a_damaged_model_is_read_without_a_crash(at: int, data: bytes) -> None:
    whole = bytearray(DIGITS.read_bytes())
    whole[at : at + len(data)] = data
    read_onnx(bytes(whole))


def test_a_tensor_with_a_million_dimensions_is_not_multiplied_out() -> None:
    dims = b"\x08\xff\xff\xff\xff\x0f" * 100_000
    tensor_field = b"\x2a" + varint(len(dims)) + dims
    graph = b"\x3a" + varint(len(tensor_field)) + tensor_field
    assert read_onnx(b"\x08\x08" + graph) is None


def varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def test_models_are_recognized_by_content_when_the_suffix_says_nothing(tmp_path: Path) -> None:
    good = relu(tmp_path).read_bytes()
    cases = {
        "m.proto": (good, True),
        "m.pb": (good, True),
        "m": (good, True),
        "m.ONNX": (b"", True),
        "m.txt": (good, False),
        "short.pb": (good[:-1], False),
        "graph.pb": (b"\x0a\x04\x0a\x02ab", False),  # a GraphDef of TensorFlow's: field 1 is a node
        "saved_model.pb": (b"\x08\x01\x12\x00", False),  # schema version, meta graph
        "flat.pb": (struct.pack("<I4s", 28, b"TFL3") + bytes(20), False),
        "runtime.bin": (struct.pack("<I4s", 28, b"ORTM") + bytes(20), True),
        "pickle.bin": (b"\x80\x04\x95", False),
        "empty.pb": (b"", False),
    }
    for name, (content, expected) in cases.items():
        path = tmp_path / name
        path.write_bytes(content)
        assert engine.ENGINE.recognizes(path) == expected, name
    (tmp_path / "folder.onnx").mkdir()
    assert not engine.ENGINE.recognizes(tmp_path / "folder.onnx")
    assert not is_onnx(tmp_path / "absent.pb")


def external(folder: Path, location: str = "data.bin", offset: int | str = 0, length: int | None = 24) -> Path:
    weight = onnx.TensorProto(name="w", data_type=FLOAT, dims=[2, 3], data_location=1)
    entries = {"location": location, "offset": offset} | ({} if length is None else {"length": length})
    for key, value in entries.items():
        weight.external_data.add(key=key, value=str(value))
    node = helper.make_node("Add", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", [tensor("x", FLOAT, (2, 3))], [tensor("y", FLOAT, (2, 3))], [weight])
    path = folder / "model.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


def test_data_beside_the_model_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "models" / "weights").mkdir(parents=True)
    (tmp_path / "models" / "weights" / "data.bin").write_bytes(bytes(8) + X.tobytes())
    monkeypatch.chdir(tmp_path)
    model = load(external(Path("models"), "weights/data.bin", offset=8))
    np.testing.assert_array_equal(model.run("", {"x": X}, ("y",))["y"], 2 * X)
    assert model.facts["external data"] == "32 bytes in 1 file"
    assert model.facts["parameters"] == "6"


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ({"location": "absent.bin"}, "data of 'w' is in 'absent.bin', and there is no such file: keep it beside"),
        ({"location": "folder"}, "'folder', and there is no such file"),
        ({"location": "short.bin"}, "'short.bin' up to byte 24, and the file ends at 23: it is cut short"),
        ({"offset": 1}, "'data.bin' up to byte 25, and the file ends at 24: it is cut short"),
        ({"offset": 1, "length": None}, "given file_length: 24 are out of bounds"),
        ({"offset": 100, "length": None}, "up to byte 100, and the file ends at 24"),
        ({"location": "../outside.bin"}, "'../outside.bin', which is not inside the model's folder: refused"),
        ({"location": "a/../../outside.bin"}, "which is not inside the model's folder: refused"),
        ({"location": "/etc/passwd"}, "'/etc/passwd', which is not inside the model's folder: refused"),
        ({"location": ""}, "which is not inside the model's folder: refused"),
        ({"offset": "ten"}, "cannot load it: .*parse"),
        ({"offset": -1}, "cannot load it: "),
        ({"length": 8}, "external data size mismatch"),
    ],
)
def test_data_that_is_not_there_is_named(tmp_path: Path, where: Any, message: str) -> None:
    folder = tmp_path / "models"
    (folder / "folder").mkdir(parents=True)
    (folder / "data.bin").write_bytes(X.tobytes())
    (folder / "short.bin").write_bytes(X.tobytes()[:-1])
    (tmp_path / "outside.bin").write_bytes(X.tobytes())
    path = external(folder, **where)
    with pytest.raises(ModelError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def old_model(folder: Path, opset: int, nodes: Any, **constants: Any) -> Path:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    known = [tensor(name, FLOAT, value.shape) for name, value in constants.items()]
    graph = helper.make_graph(
        nodes, "g", [tensor("x", FLOAT, (2, 3, 4)), *known], [tensor("y", FLOAT, (2, 3, 4))], initializers
    )
    path = folder / "old.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=3)
    path.write_bytes(model.SerializeToString())
    return path


def test_an_old_opset_is_upgraded_when_it_is_loaded(tmp_path: Path) -> None:
    """Before opset 7 an attribute said to which axis the second operand belongs: here to the middle one, twice."""
    x = np.random.default_rng(3).normal(size=(2, 3, 4)).astype(np.float32)
    a, b, c = (np.arange(1, 1 + n, dtype=np.float32) for n in (3, 3, 4))
    nodes = [
        helper.make_node("Add", ["x", "a"], ["s"], broadcast=1, axis=1),
        helper.make_node("Mul", ["s", "b"], ["t"], broadcast=1, axis=1),
        helper.make_node("Sub", ["t", "c"], ["u"], broadcast=1, axis=2),
        helper.make_node("Div", ["u", "c"], ["v"], broadcast=1),
        helper.make_node("Relu", ["v"], ["y"]),
    ]
    model = load(old_model(tmp_path, 5, nodes, a=a, b=b, c=c))
    assert model.facts["opset"] == "5"
    assert model.facts["upgraded"] == "from opset 5 to 7, by onnx"
    expected = np.maximum(((x + a[:, None]) * b[:, None] - c) / c, 0)
    np.testing.assert_allclose(model.run("", {"x": x}, ("y",))["y"], expected, rtol=1e-6)


def test_an_old_opset_that_cannot_be_upgraded_names_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    import sys

    path = old_model(tmp_path, 1, [helper.make_node("Nope", ["x"], ["y"])])
    with pytest.raises(ModelError, match=r"opset 1, .* opset 7 and newer, and onnx cannot convert it \(.*opset 13"):
        load(path)
    path = old_model(tmp_path, 5, [helper.make_node("Relu", ["x"], ["y"])])
    assert load(path).facts["upgraded"]
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match=r"was written for opset 5, .* newer; run: pip install onnx") as caught:
        load(path)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_model_of_2017_is_served_with_its_answers() -> None:
    """Written by PyTorch 0.3 for opset 2: incomplete pads, shapes aligned by attributes."""
    folder = os.environ.get("TENSORWIRE_TEST_DATA")
    if not folder:
        pytest.skip("TENSORWIRE_TEST_DATA is not set")
    torch = pytest.importorskip("torch", reason="computes what the model should answer")
    path = Path(folder) / OLD
    assert engine.ENGINE.recognizes(path)
    model = load(path)
    assert model.facts["opset"] == "2"
    assert model.facts["upgraded"] == "from opset 2 to 7, by onnx"
    spec = model.signatures[model.default_signature].inputs[0]
    assert (spec.name, spec.shape) == ("1", (1, 1, 28, 28))
    weights = {
        w.name: torch.from_numpy(numpy_helper.to_array(w).copy()) for w in onnx.load(str(path)).graph.initializer
    }
    x = np.random.default_rng(4).random((1, 1, 28, 28), np.float32)
    net, relu_of = torch.nn.functional, torch.relu
    h = relu_of(net.max_pool2d(net.conv2d(torch.from_numpy(x), weights["2"], weights["3"]), 2))
    h = relu_of(net.max_pool2d(net.conv2d(h, weights["4"], weights["5"]), 2)).reshape(-1, 320)
    h = relu_of(net.linear(h, weights["6"], weights["7"]))
    expected = net.log_softmax(net.linear(h, weights["8"], weights["9"]), 1).numpy()
    np.testing.assert_allclose(model.run("", {"1": x}, ("32",))["32"], expected, rtol=1e-4)


def test_a_model_from_memory_needs_no_file(tmp_path: Path) -> None:
    content = relu(tmp_path, producer_name="us").read_bytes()
    model = engine.ENGINE.load_bytes(content, Path("made.onnx"), options={"concurrency": 2})
    assert (model.name, model.concurrency, model.facts["producer"]) == ("made", 2, "us")
    assert model.run("", {"x": -X[1]}, ("y",))["y"].tolist() == [0, 0, 0]
    with pytest.raises(ModelError, match=r"^made\.onnx: not an ONNX model, or cut short"):
        engine.ENGINE.load_bytes(content[:30], Path("made.onnx"), options={})


def test_what_a_build_lacks_is_named(tmp_path: Path) -> None:
    custom = helper.make_node("Foo", ["x"], ["y"], domain="my.ops")
    cases: list[tuple[Path, str]] = [
        (
            save(
                tmp_path, [custom], [tensor("x", FLOAT)], [tensor("y", FLOAT)], domains=[("my.ops", 1)], name="custom"
            ),
            r"operator Foo of my\.ops is not in ONNX Runtime .*: name the library that has it, --custom-op-path",
        ),
        (
            save(tmp_path, [("Nope", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)], name="nope"),
            "there is no operator Nope in opset 18",
        ),
    ]
    future = onnx.load(str(relu(tmp_path)))
    future.ir_version = 99
    (tmp_path / "future.onnx").write_bytes(future.SerializeToString())
    cases.append((tmp_path / "future.onnx", "has IR version 99, ONNX Runtime .* knows .* install a newer one"))
    for path, message in cases:
        with pytest.raises(ModelError, match=message):
            load(path)


def test_what_runs_out_of_memory_or_has_no_rows_leaves_the_model_in_order(tmp_path: Path) -> None:
    path = save(
        tmp_path,
        [("ConstantOfShape", ["shape"], ["y"])],
        [tensor("shape", ELEMENT.INT64, (2,))],
        [tensor("y", FLOAT, None)],
    )
    model = load(path)
    with pytest.raises(RuntimeError, match=r"^operator ConstantOfShape: Failed to allocate memory .* 17592186044416$"):
        model.run("", {"shape": np.array([1 << 20, 1 << 22])}, ("y",))
    assert model.run("", {"shape": np.array([0, 5])}, ("y",))["y"].shape == (0, 5)
    with pytest.raises(RequestError, match="Got: 3 Expected: 2"):
        model.run("", {"shape": np.array([1, 2, 3])}, ("y",))
    assert model.run("", {"shape": np.array([1, 2])}, ("y",))["y"].tolist() == [[0, 0]]
