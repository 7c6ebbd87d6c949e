"""Whole MXNet networks: what they compute, beside numpy and PyTorch, in process and over the wire."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="MXNet networks run on onnxruntime")
pytest.importorskip("onnx", reason="MXNet networks become ONNX graphs")

import mxnet_numpy
from mxnet_families import FAMILIES
from mxnet_nets import Net, params

import tensorwire as tw
from tensorwire import TensorSpec
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.nets.mxnet.engine import ENGINE
from tensorwire.servers.engines.nets.mxnet.params import read_params
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import Model, ModelError

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
MLP = Path(DATA or "", "simple_tensorflow_serving/mxnet_mlp")


def close(found: Any, expected: Any, tolerance: float = 2e-5) -> None:
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=tolerance)


def run(model: Model, x: Any) -> Any:
    signature = model.signatures[model.default_signature]
    return model.run("", {signature.inputs[0].name: x}, tuple(spec.name for spec in signature.outputs))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_a_family_computes_what_numpy_and_torch_compute(tmp_path: Path, family: str) -> None:
    make, side = FAMILIES[family]
    net = make()
    folder = net.write(tmp_path / family)
    model = load_model(folder, options={"inputs": f"data:float32[?,3,{side},{side}]"})
    assert model.name == family
    signature = model.signatures[model.default_signature]
    assert signature.inputs == (TensorSpec("data", np.float32, (-1, 3, side, side)),)
    assert signature.outputs == (TensorSpec("softmax", np.float32, (-1, 10)),)
    x = np.random.default_rng(1).standard_normal((3, 3, side, side)).astype(np.float32)
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        y = client.infer({"data": x})["softmax"]
    close(y, mxnet_numpy.run(net.symbol(), net.weights | {"data": x})["softmax"])
    torch_net = pytest.importorskip("mxnet_torch", reason="compares with torch")
    close(y, torch_net.run(net.symbol(), net.weights | {"data": x})["softmax"])
    if family != "resnet":  # it starts with a normalization, which does not say that its input is an image
        close(run(load_model(folder), x)["softmax"], y)


@pytest.mark.skipif(not DATA, reason="TENSORWIRE_TEST_DATA is not set")
def test_a_file_of_mxnets_own_over_the_wire() -> None:
    weights = read_params(MLP / "mx_mlp-0001.params")
    assert {name: array.shape for name, array in weights.items()} == {"fc1_weight": (1, 2), "fc1_bias": (1,)}
    x = np.random.default_rng(0).standard_normal((5, 2)).astype(np.float32)
    expected = x @ weights["fc1_weight"].T + weights["fc1_bias"]
    for path in (MLP, MLP / "mx_mlp-symbol.json"):
        model = load_model(path)
        assert model.signatures[model.default_signature].inputs == (TensorSpec("data", np.float32, (-1, 2)),)
        with BackgroundServer(model) as server, tw.Client(server.url) as client:
            y = client.infer({"data": x}, outputs=["lro"])["lro"]
        close(y, expected, 1e-6)


def small(folder: Path, name: str = "net", **write: Any) -> Net:
    net = Net()
    net.dense(3, 4)
    net.add("Activation", name="act", act_type="tanh")
    net.write(folder, name, **write)
    return net


X = np.random.default_rng(5).standard_normal((2, 4)).astype(np.float32)


def test_the_parameters_of_the_highest_epoch_count_unless_others_are_named(tmp_path: Path) -> None:
    net = small(tmp_path)
    zero = {name: array * 0 for name, array in net.weights.items()}
    (tmp_path / "net-0010.params").write_bytes(params(net.weights))
    for name in ("net-0000.params", "net-0009.params", "other-0099.params", "netx-0099.params"):
        (tmp_path / name).write_bytes(params(zero))
    expected = mxnet_numpy.run(net.symbol(), net.weights | {"data": X})["act"]
    for path in (tmp_path, tmp_path / "net-symbol.json"):
        assert ENGINE.recognizes(path)
        model = load_model(path)
        assert model.facts["parameters"] == "net-0010.params"
        close(run(model, X)["act"], expected)
    model = load_model(tmp_path, options={"params": str(tmp_path / "other-0099.params")})
    assert not run(model, X)["act"].any()


@pytest.mark.parametrize("version", [0, 1, 2, 3])
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "uint8", "int32", "int8", "int64"])
def test_every_version_of_the_list_of_arrays(tmp_path: Path, version: int, dtype: str) -> None:
    arrays = {"a": np.arange(6).reshape(1, 2, 3).astype(dtype), "moving_b": np.arange(2).astype(dtype)}
    path = tmp_path / "x.params"
    path.write_bytes(params(arrays, version))
    found = read_params(path)
    assert list(found) == ["a", "moving_b"]
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)
        assert not found[name].flags.owndata  # a view of the file's bytes


def test_arrays_that_were_never_made_and_arrays_of_no_dimension(tmp_path: Path) -> None:
    import struct

    none = struct.pack("<IiI", 0xF993FAC9, 0, 0)
    scalar = struct.pack("<IiIiiif", 0xF993FACA, 0, 0, 1, 0, 0, 2.5)
    names = struct.pack("<Q", 2) + b"".join(struct.pack("<Q", 1) + name for name in (b"n", b"s"))
    path = tmp_path / "x.params"
    path.write_bytes(struct.pack("<QQQ", 0x112, 0, 2) + none + scalar + names)
    found = read_params(path)
    assert found["n"].shape == (0,)
    assert found["s"].shape == ()
    assert found["s"] == np.float32(2.5)


@pytest.mark.parametrize("key", ["attrs", "attr", "param"])
def test_symbols_of_every_age(tmp_path: Path, key: str) -> None:
    net = Net(key=key)
    net.dense(3, 4)
    net.add("LeakyReLU", name="act", act_type="leaky", slope=0.5)
    net.write(tmp_path)
    symbol = net.symbol()
    if key == "param":  # before 0.9: sources without a version, and nodes with one for the backward pass
        symbol["heads"] = [head[:2] for head in symbol["heads"]]
        for node in symbol["nodes"]:
            node["inputs"] = [source[:2] for source in node["inputs"]]
            node["backward_source_id"] = -1
    (tmp_path / "net-symbol.json").write_text(json.dumps(symbol))
    close(run(load_model(tmp_path), X)["act"], mxnet_numpy.run(net.symbol(), net.weights | {"data": X})["act"])


def test_inputs_come_from_the_signature_the_symbol_or_the_option(tmp_path: Path) -> None:
    net = Net()
    net.add("Activation", name="act", act_type="relu")
    net.write(tmp_path)

    def shape(**options: Any) -> Any:
        model = load_model(tmp_path, options=options)
        return model.signatures[model.default_signature].inputs[0].shape

    assert shape() == ()
    net.nodes[0]["attrs"] = {"__shape__": "(0, 3, 8)", "__dtype__": "0"}
    net.write(tmp_path)
    assert shape() == (-1, 3, 8)
    (tmp_path / "net-signature.json").write_text('{"inputs": [{"data_name": "data", "data_shape": [1, 5]}]}')
    assert shape() == (-1, 5)
    assert shape(inputs="data:float32[?,7]") == (-1, 7)
    for wrong in ("[]", '{"inputs": [{"data_name": 1}]}', '{"inputs": [{"data_name": "data", "data_shape": "x"}]}'):
        (tmp_path / "net-signature.json").write_text(wrong)
        with pytest.raises(ModelError, match=r"net-signature\.json: .*is not"):
            load_model(tmp_path)


def test_several_outputs_and_nodes_inside(tmp_path: Path) -> None:
    net = small(tmp_path / "one")
    net.add("SliceChannel", name="parts", num_outputs=3, axis=1)
    net.write(tmp_path / "two", heads=("parts:2", "act", "parts"))
    expected = mxnet_numpy.run(net.symbol(), net.weights | {"data": X})
    found = run(load_model(tmp_path / "two"), X)
    assert list(found) == ["parts_output2", "act", "parts"]
    close(found["parts_output2"], expected["parts:2"])
    close(found["act"], expected["act"])
    found = run(load_model(tmp_path / "one", options={"outputs": "fc1,act_output"}), X)
    assert list(found) == ["fc1", "act_output"]
    close(found["fc1"], expected["fc1"])
