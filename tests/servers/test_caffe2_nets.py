"""Whole Caffe2 networks: what they compute, beside numpy and PyTorch, in process and over the wire."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="Caffe2 networks run on onnxruntime")
pytest.importorskip("onnx", reason="Caffe2 networks become ONNX graphs")

import caffe2_numpy
from caffe2_families import FAMILIES, weights_for
from caffe2_nets import operator, predict_net, write

import tensorwire as tw
from tensorwire import TensorSpec
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.nets.caffe2.engine import ENGINE, load_caffe2
from tensorwire.servers.engines.nets.caffe2.proto import messages
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import Model

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
needs_data = pytest.mark.skipif(not DATA, reason="TENSORWIRE_TEST_DATA is not set")
SQUEEZENET = Path(DATA or "", "graphpipe/caffe2/squeezenet.predict_net.pb")
VALUE_INPUTS = Path(DATA or "", "graphpipe/caffe2/squeezenet.value_inputs_caffe2.json")


def close(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=tolerance)


def run(model: Model, x: Any) -> Any:
    signature = model.signatures[model.default_signature]
    names = tuple(spec.name for spec in signature.outputs)
    return model.run("", {signature.inputs[0].name: x}, names)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_computes_what_numpy_and_torch_compute(tmp_path: Path, family: str) -> None:
    make, side = FAMILIES[family]
    maker = make()
    net = maker.net(family)
    folder = write(tmp_path / family, net, maker.weights)
    model = load_model(folder, options={"inputs": f"data:float32[?,3,{side},{side}]"})
    assert model.name == family
    assert model.signatures[model.default_signature].inputs == (TensorSpec("data", np.float32, (-1, 3, side, side)),)
    x = np.random.default_rng(1).standard_normal((3, 3, side, side)).astype(np.float32)
    y = run(model, x)["prob"]
    assert y.shape == (3, 10)
    close(y, caffe2_numpy.run(net, maker.weights | {"data": x})["prob"])
    torch_net = pytest.importorskip("caffe2_torch", reason="compares with torch")
    close(y, torch_net.run(net, maker.weights | {"data": x})["prob"])
    close(run(load_model(folder), x)["prob"], y)  # the image's size is only known when the request comes


def squeezenet_filters(net: Any) -> dict[str, int]:
    """SqueezeNet 1.1: https://github.com/forresti/SqueezeNet/tree/master/SqueezeNet_v1.1"""
    squeeze = dict(zip("23456789", (16, 16, 32, 32, 48, 48, 64, 64), strict=True))
    filters = {"conv1_w": 64, "conv10_w": 1000}
    for op in net.op:
        found = re.match(r"fire(\d)/(squeeze|expand)", op.input[1]) if op.type == "Conv" else None
        if found:
            filters[op.input[1]] = squeeze[found[1]] * (4 if found[2] == "expand" else 1)
    return filters


@needs_data
def test_squeezenet_over_the_wire_gives_every_output_of_numpy_and_torch(tmp_path: Path) -> None:
    net = messages().NetDef.FromString(SQUEEZENET.read_bytes())
    weights = weights_for(net, squeezenet_filters(net))
    folder = write(tmp_path / "squeezenet", net, weights)
    (folder / "predict_net.pb").write_bytes(SQUEEZENET.read_bytes())
    model = load_caffe2(folder / "init_net.pb", folder / "predict_net.pb", value_inputs=VALUE_INPUTS)
    assert model.signatures[model.default_signature].inputs == (TensorSpec("data", np.float32, (-1, 3, 227, 227)),)
    assert model.facts["operators"].startswith("Conv 26, Relu 26, Concat 8")
    x = np.random.default_rng(3).standard_normal((2, 3, 227, 227)).astype(np.float32)
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        y = client.infer({"data": x})["softmaxout"]
        first = client.infer({"data": x[:1]})["softmaxout"]
    assert y.shape == (2, 1000, 1, 1)
    close(y.sum(1), np.ones((2, 1, 1)))
    close(first, y[:1])
    close(y, caffe2_numpy.run(net, weights | {"data": x})["softmaxout"])
    torch_net = pytest.importorskip("caffe2_torch", reason="compares with torch")
    close(y, torch_net.run(net, weights | {"data": x})["softmaxout"])


@needs_data
def test_blobs_inside_a_net_can_be_asked_for(tmp_path: Path) -> None:
    net = messages().NetDef.FromString(SQUEEZENET.read_bytes())
    weights = weights_for(net, squeezenet_filters(net))
    folder = write(tmp_path / "squeezenet", net, weights)
    names = ["pool1", "fire2/concat", "_fire2/concat_dims", "fire9/concat", "pool10", "softmaxout"]
    model = ENGINE.load(folder, options={"outputs": names, "inputs": "data:float32[?,3,99,99]"})
    x = np.random.default_rng(3).standard_normal((1, 3, 99, 99)).astype(np.float32)
    found = run(model, x)
    expected = caffe2_numpy.run(net, weights | {"data": x})
    assert list(found) == names
    assert found["_fire2/concat_dims"].tolist() == [64, 64]
    for name in names:
        close(found[name], expected[name], 1e-3)


def small(folder: Path, *more: Any, outputs: tuple[str, ...] = ("y",)) -> Path:
    """y = relu(w x + b), and more operators."""
    weights = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.array([1, -9, 0], np.float32)}
    operators = [operator("FC", ["x", "w", "b"], ["fc"]), operator("Relu", ["fc"], ["y"]), *more]
    return write(folder / "small", predict_net(operators, ["x", "w", "b"], outputs), weights)


X = np.array([[1, 2], [3, 4]], np.float32)
Y = np.maximum(X @ np.arange(6, dtype=np.float32).reshape(3, 2).T + np.array([1, -9, 0], np.float32), 0)


def test_a_pair_is_named_in_several_ways(tmp_path: Path) -> None:
    folder = small(tmp_path)
    elsewhere = tmp_path / "weights.pb"
    elsewhere.write_bytes((folder / "init_net.pb").read_bytes())
    described = tmp_path / "value_inputs.json"
    described.write_text(json.dumps({"x": [1, [1, 2]]}))
    for path, options in (
        (folder, {}),
        (folder / "predict_net.pb", {}),
        (folder / "predict_net.pb", {"init_net": str(elsewhere)}),
        (folder, {"value_inputs": str(described)}),
        (folder, {"inputs": "x:float32[?, 2]", "outputs": "y", "intra_op_num_threads": 1}),
    ):
        model = load_model(path, options=options)
        assert model.signatures[model.default_signature].inputs == (TensorSpec("x", np.float32, (-1, 2)),)
        assert model.signatures[model.default_signature].outputs == (TensorSpec("y", np.float32, (-1, 3)),)
        assert model.name == path.stem
        np.testing.assert_array_equal(run(model, X)["y"], Y)


def test_a_net_in_text_and_one_that_says_less(tmp_path: Path) -> None:
    from google.protobuf import text_format

    folder = small(tmp_path)
    for name in ("predict_net", "init_net"):
        net = messages().NetDef.FromString((folder / f"{name}.pb").read_bytes())
        net.ClearField("external_input")
        net.ClearField("external_output")
        (folder / f"{name}.pbtxt").write_text(f"{text_format.MessageToString(net)}\nnum_workers: 4\n")
        (folder / f"{name}.pb").unlink()
    assert ENGINE.recognizes(folder)
    assert ENGINE.recognizes(folder / "init_net.pbtxt")
    np.testing.assert_array_equal(run(load_model(folder), X)["y"], Y)


def test_a_list_of_floats_written_without_packing_is_read_like_a_packed_one(tmp_path: Path) -> None:
    """Caffe2 declares them so, and every file that it wrote has a key before each number."""
    folder = small(tmp_path)
    net = messages().NetDef.FromString((folder / "init_net.pb").read_bytes())
    parts = []
    for op in net.op:
        values = next(argument for argument in op.arg if argument.name == "values")
        unpacked = b"\x0a\x06values" + b"".join(b"\x2d" + np.float32(item).tobytes() for item in values.floats)
        del op.arg[1]
        body = op.SerializeToString() + b"\x2a" + bytes([len(unpacked)]) + unpacked
        parts.append(b"\x12" + bytes([len(body)]) + body)
    (folder / "init_net.pb").write_bytes(b"".join(parts))
    np.testing.assert_array_equal(run(load_model(folder), X)["y"], Y)


def test_an_input_that_the_init_net_fills_with_a_zero_is_an_input_all_the_same(tmp_path: Path) -> None:
    folder = small(tmp_path)
    init = messages().NetDef.FromString((folder / "init_net.pb").read_bytes())
    init.op.append(operator("ConstantFill", [], ["x"], shape=[1], value=0.0))
    (folder / "init_net.pb").write_bytes(init.SerializeToString())
    np.testing.assert_array_equal(run(load_model(folder), X)["y"], Y)
    np.testing.assert_array_equal(run(load_model(folder, options={"inputs": "x:float32[?,2]"}), X)["y"], Y)


def test_a_net_that_reshapes_to_a_fixed_batch_keeps_the_declared_one(tmp_path: Path) -> None:
    folder = small(tmp_path, operator("Reshape", ["y"], ["z", "old"], shape=[2, 3, 1]), outputs=("z", "old"))
    model = load_model(folder, options={"inputs": "x:float32[2,2]"})
    assert model.signatures[model.default_signature].inputs == (TensorSpec("x", np.float32, (2, 2)),)
    found = run(model, X)
    np.testing.assert_array_equal(found["z"], Y[:, :, None])
    assert found["old"].tolist() == [2, 3]
    free = small(tmp_path, operator("Reshape", ["y"], ["z", "old"], shape=[0, -1, 1]), outputs=("z",))
    model = load_model(free, options={"inputs": "x:float32[2,2]"})
    assert model.signatures[model.default_signature].inputs[0].shape == (-1, 2)
    np.testing.assert_array_equal(run(model, X[:1])["z"], Y[:1, :, None])


def test_blobs_that_are_overwritten_passed_on_or_given_twice(tmp_path: Path) -> None:
    folder = small(
        tmp_path,
        operator("Dropout", ["y"], ["y", "mask"], ratio=0.5),
        operator("Copy", ["y"], ["same"]),
        operator("Scale", ["x"], ["twice"], scale=2.0),
        operator("Sigmoid", ["twice"], ["twice"]),
        operator("Copy", ["b"], ["constant"]),
        operator("Copy", ["x"], ["passed"]),
        outputs=("y", "same", "twice", "constant", "passed"),
    )
    found = run(load_model(folder), X)
    np.testing.assert_array_equal(found["y"], Y)
    np.testing.assert_array_equal(found["same"], Y)
    np.testing.assert_array_equal(found["passed"], X)
    assert found["constant"].tolist() == [1, -9, 0]
    close(found["twice"], 1 / (1 + np.exp(-2 * X)))
