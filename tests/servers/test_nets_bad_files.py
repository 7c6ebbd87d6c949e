"""Damaged, foreign and hostile files of Caffe2 and MXNet: one line that says why, no crash, no huge allocation."""

from __future__ import annotations

import json
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these networks run on onnxruntime")
pytest.importorskip("onnx", reason="these networks become ONNX graphs")

from caffe2_nets import init_net, operator, predict_net, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mxnet_nets import Net, params
from onnx_models import ELEMENT, save, tensor

from tensorwire.servers.engines.nets.caffe2.engine import ENGINE as CAFFE2
from tensorwire.servers.engines.nets.caffe2.engine import load_caffe2
from tensorwire.servers.engines.nets.caffe2.proto import messages
from tensorwire.servers.engines.nets.mxnet.engine import ENGINE as MXNET
from tensorwire.servers.engines.nets.mxnet.params import read_params
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import ModelError

WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(3, 2), "b": np.zeros(3, np.float32)}
FC = operator("FC", ["x", "w", "b"], ["y"])


def pair(folder: Path, *operators: Any, weights: Any = WEIGHTS, outputs: tuple[str, ...] = ("y",)) -> Path:
    return write(folder, predict_net(operators or [FC], ["x", *WEIGHTS], outputs), weights)


def mlp(folder: Path) -> Net:
    net = Net()
    net.dense(3, 2)
    net.classify()
    net.write(folder)
    return net


def relu(folder: Path) -> Path:
    """An ONNX model."""
    return save(folder, [("Relu", ["x"], ["y"])], [tensor("x", ELEMENT.FLOAT)], [tensor("y", ELEMENT.FLOAT)])


def loads(engine: Any, path: Path) -> bool:
    """Whether it loads; if not, the error is one line."""
    reasons = []
    try:
        engine.load(path, options={}).close()
    except ModelError as error:
        reasons.append(str(error))
    assert all("\n" not in reason for reason in reasons)
    return not reasons


def refused(path: Path, message: str, **options: Any) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path, engine="caffe2" if any(path.glob("*.pb")) else "mxnet", options=options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 2500


def test_operators_that_are_not_known_are_named_all_at_once(tmp_path: Path) -> None:
    first, second = operator("Wobble", ["x"], ["wob"]), operator("Frob", ["wob"], ["y"], name="f")
    refused(
        pair(tmp_path / "c", first, FC, second),
        r"predict_net\.pb: operators that are not supported: Wobble 'wob' \(operator 0\), Frob 'y' \(operator 2\)",
    )
    net = mlp(tmp_path / "m")
    net.add("Wobble", name="wob")
    net.add("Frob", name="frob")
    net.write(tmp_path / "m")
    refused(tmp_path / "m", r"not supported: Wobble 'wob' \(node 6\), Frob 'frob' \(node 7\)")
    many = [operator(f"Strange{n}", ["x"], [f"y{n}"]) for n in range(200)]
    refused(pair(tmp_path / "many", *many, outputs=("y1",)), "Strange19 .* and 180 more")


def test_weights_that_are_missing_or_do_not_fit_are_named(tmp_path: Path) -> None:
    refused(pair(tmp_path / "1", weights={"w": WEIGHTS["w"]}), "weights that the init net does not make: 'b'")
    refused(pair(tmp_path / "2", weights={"w": WEIGHTS["w"]}), "init net does not make: 'b'", inputs="x:float32[?,2]")
    refused(
        pair(tmp_path / "3", weights=WEIGHTS | {"b": np.zeros(4, np.float32)}),
        r"FC 'y' \(operator 0\): weight 'b' has the shape \[4\], expected \[3\]",
    )
    refused(pair(tmp_path / "4"), r"weight 'w' has the shape \[3, 2\], expected \[\?, 5\]", inputs="x:float32[?,5]")
    net = mlp(tmp_path / "5")
    (tmp_path / "5/net-0000.params").write_bytes(params({"fc1_weight": net.weights["fc1_weight"]}))
    refused(tmp_path / "5", "weights that the parameters do not have: 'fc1_bias'")
    (tmp_path / "5/net-0000.params").write_bytes(params(net.weights | {"fc1_bias": np.zeros(9, np.float32)}))
    refused(tmp_path / "5", r"FullyConnected 'fc1' \(node 3\): weight 'fc1_bias' has the shape \[9\], expected \[3\]")


def test_inputs_and_outputs_that_are_not_there(tmp_path: Path) -> None:
    folder, net = pair(tmp_path / "c"), tmp_path / "m"
    mlp(net)
    refused(folder, "input 'z' is not read by the net: it reads 'x'", inputs="z:float32[?,2]")
    refused(folder, "output 'z' is made by no operator: they make 'y'", outputs="z")
    refused(net, "input 'z' is not read by the network: it reads 'data'", inputs="z:float32[?,2]")
    refused(net, "output 'z' is no node: there are 'fc1', 'softmax'", outputs="z")
    refused(folder, "unknown dtype 'nothing'", inputs="x:nothing[?,2]")
    refused(folder, "FC 'y' .*: does not fit its inputs", inputs="x:string[?,2]")
    refused(folder, "has no option frob", frob=1)
    refused(net, "has no option frob", frob=1)


def test_blobs_out_of_order_and_in_circles(tmp_path: Path) -> None:
    circle = [operator("Relu", ["q"], ["p"]), operator("Relu", ["p"], ["q"])]
    refused(
        pair(tmp_path / "1", FC, *circle, outputs=("q",)),
        "'q' is read before anything makes it",
        inputs="x:float32[?,2]",
    )
    mask = [FC, operator("Dropout", ["y"], ["d", "mask"]), operator("Relu", ["mask"], ["z"])]
    refused(pair(tmp_path / "2", *mask, outputs=("z",)), "'mask' is read, which Dropout 'd' .* makes in training only")
    mlp(tmp_path / "3")
    path = tmp_path / "3/net-symbol.json"
    symbol = json.loads(path.read_text())
    symbol["nodes"][3]["inputs"][0] = [5, 0, 0]
    path.write_text(json.dumps(symbol))
    refused(tmp_path / "3", "node 3 'fc1' reads node 5, which does not come before: a cycle, or damaged")
    symbol["nodes"][3]["inputs"][0] = [0, 7, 0]
    path.write_text(json.dumps(symbol))
    refused(tmp_path / "3", "output 7 of null 'data' .* is read")


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (operator("XavierFill", [], ["w"], shape=[3, 2]), "weights would be random: XavierFill 'w' .*random_weights=1"),
        (operator("ConstantFill", [], ["w"], shape=[2**31, 2**20]), "needs .* bytes, which is too much"),
        (operator("GivenTensorFill", [], ["w"], shape=[2**31, 2**31], values=[1.0]), "1 values for the shape"),
        (operator("GivenTensorFill", [], ["w"], shape=[-3, 2], values=[1.0] * 6), r"\[-3, 2\] is not a shape"),
        (operator("GivenTensorStringFill", [], ["w"], shape=[1], values=[1]), "make no weights, or are not supported"),
        (operator("ConstantFill", ["b"], ["w"]), "takes its shape from another blob"),
        (operator("ConstantFill", [], ["w"], shape=[2], value=2**40, dtype=2), "is no int32"),
        (operator("ConstantFill", [], ["w"], shape=[2], dtype=99), "type 99 is not one of numbers"),
        (operator("Copy", ["nothing"], ["w"]), "copies a blob that was not filled before"),
        (operator("ConstantFill", [], ["w", "v"], shape=[2]), "fills one blob, 2 are named"),
    ],
)
def test_init_nets_that_cannot_be_carried_out(tmp_path: Path, op: Any, message: str) -> None:
    folder = pair(tmp_path / "c", weights=init_net({"b": WEIGHTS["b"]}, [op]))
    tracemalloc.start()
    refused(folder, rf"init_net\.pb: .*{message}")
    assert tracemalloc.get_traced_memory()[1] < 2**26
    tracemalloc.stop()


def test_random_weights_are_drawn_when_they_are_wanted(tmp_path: Path) -> None:
    fills = [
        operator("XavierFill", [], ["w"], shape=[3, 2]),
        operator("UniformFill", [], ["b"], shape=[3], min=1.0, max=2.0),
    ]
    folder = pair(tmp_path / "c", weights=init_net({}, fills))
    found = [
        load_model(folder, options={"random_weights": 1}).run("", {"x": np.ones((1, 2), np.float32)}, ("y",))["y"]
        for _ in range(2)
    ]
    np.testing.assert_array_equal(*found)
    assert (np.abs(found[0]) < 2 + 2 * np.sqrt(3 / 2)).all()


def test_every_cut_of_a_file_and_files_of_others(tmp_path: Path) -> None:
    folder, net = pair(tmp_path / "c"), tmp_path / "m"
    mlp(net)
    foreign = {
        "empty": b"",
        "text": b"hello world\n" * 20,
        "zeros": bytes(1000),
        "onnx": relu(tmp_path).read_bytes(),
        "json": b'{"nodes": 3, "heads": []}',
        "deep": b"[" * 100_000,
    }
    for path in (folder / "predict_net.pb", folder / "init_net.pb", net / "net-symbol.json", net / "net-0000.params"):
        good = path.read_bytes()
        cuts = {f"cut {n}": good[:n] for n in {*range(0, len(good), max(len(good) // 40, 1))} - {len(good)}}
        for name, content in (foreign | cuts).items():
            path.write_bytes(content)
            if loads(CAFFE2 if path.suffix == ".pb" else MXNET, path.parent):
                # The end of a predict net only repeats what its inputs and outputs are called.
                assert path.name == "predict_net.pb" and name.startswith("cut"), name
        path.write_bytes(good)
    for path in (folder, net):
        assert load_model(path)


def test_a_text_net_that_is_none(tmp_path: Path) -> None:
    folder = pair(tmp_path / "c")
    (folder / "predict_net.pb").unlink()
    for content in ("op { type: 3 }", "op {" * 2000, "\xff", "}", "op { arg { n { op { arg { n {" * 200):
        (folder / "predict_net.pbtxt").write_bytes(content.encode("latin-1"))
        with pytest.raises(ModelError, match=r"predict_net\.pbtxt: not the text of a Caffe2 NetDef"):
            CAFFE2.load(folder, options={})


def test_the_files_of_a_pair_that_are_missing(tmp_path: Path) -> None:
    folder = pair(tmp_path / "c")
    with pytest.raises(ModelError, match=r"no such file: .*nowhere"):
        load_model(folder, options={"init_net": "nowhere.pb"})
    with pytest.raises(ModelError, match=r"no such file: .*nowhere"):
        load_caffe2(folder / "init_net.pb", "nowhere.pb")
    (folder / "init_net.pb").unlink()
    with pytest.raises(ModelError, match="no init_net beside it; name it with option init_net"):
        load_model(folder)
    mlp(tmp_path / "m")
    with pytest.raises(ModelError, match=r"no such file: .*nowhere"):
        load_model(tmp_path / "m", options={"params": "nowhere.params"})
    (tmp_path / "m/net-0000.params").unlink()
    with pytest.raises(ModelError, match=r"no net-0000\.params beside it; set option params"):
        load_model(tmp_path / "m")
    (tmp_path / "empty").mkdir()
    for engine, message in ((CAFFE2, "no predict_net"), (MXNET, "not one file in this folder is called")):
        assert not engine.recognizes(tmp_path / "empty")
        with pytest.raises(ModelError, match=message):
            engine.load(tmp_path / "empty", options={})


def test_only_files_of_the_format_are_recognized(tmp_path: Path) -> None:
    model = relu(tmp_path)
    (tmp_path / "predict_net.pb").write_bytes(model.read_bytes())
    (tmp_path / "net-symbol.json").write_text('{"learner": {"nodes": []}}')
    for name in (model, tmp_path, tmp_path / "predict_net.pb", tmp_path / "net-symbol.json", tmp_path / "absent"):
        assert not CAFFE2.recognizes(Path(name))
        assert not MXNET.recognizes(Path(name))


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("[]", 'expected {"data": '),
        ("{", "not JSON"),
        ('{"x": 3}', "input 'x': 3 is not a type number and a shape"),
        ('{"x": [99, [1, 2]]}', "input 'x': type 99 is none of 1 float32"),
        ('{"x": [1, "2"]}', "input 'x': 2 is not a shape"),
        ('{"x": [1, [1, -7]]}', r"input 'x': \[1, -7\] is not a shape"),
        ('{"x": [1, [1, 99999999999999]]}', "is not a shape"),
        ('{"x": [1, [1, 2000000000, 2000000000]]}', "that is too large"),
    ],
)
def test_value_inputs_that_are_none(tmp_path: Path, described: str, message: str) -> None:
    path = tmp_path / "value_inputs.json"
    path.write_text(described)
    refused(pair(tmp_path / "c"), message, value_inputs=str(path))


def array_list(array: bytes) -> bytes:
    return struct.pack("<QQQ", 0x112, 0, 1) + array + struct.pack("<QQ", 1, 1) + b"x"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (struct.pack("<QQQ", 0x113, 0, 0), "not a list of MXNet arrays"),
        (struct.pack("<QQQ", 0x112, 0, 2**60), "cut short, or damaged: .* arrays in 0 bytes"),
        (struct.pack("<QQQQ", 0x112, 0, 0, 2**63), "cut short, or damaged: .* names"),
        (array_list(struct.pack("<Ii", 0xF993FAC9, 1)), "storage type 1: only dense arrays are supported"),
        (array_list(struct.pack("<IiI", 0xF993FAC9, 0, 2**31 - 1)), "2147483647 dimensions"),
        (array_list(struct.pack("<I", 77)), "77 dimensions"),
        (array_list(struct.pack("<IiI2q3i", 0xF993FAC9, 0, 2, 2**40, 2**40, 1, 0, 0)), "cut short: an array of shape"),
        (array_list(struct.pack("<IiIq3i", 0xF993FAC9, 0, 1, -1, 1, 0, 0)), r"shape \[-1\]: damaged"),
        (array_list(struct.pack("<IiIq3i", 0xF993FAC9, 0, 1, 1, 1, 0, 44)), "type 44 is not known"),
        (struct.pack("<QQQQQ", 0x112, 0, 0, 1, 1) + b"x", "0 arrays with 1 names"),
        (struct.pack("<QQQQQ", 0x112, 0, 0, 1, 1) + b"\xff", "a name is not UTF-8"),
        (struct.pack("<QQQQ", 0x112, 0, 0, 0) + b"more", "4 bytes are left over"),
    ],
)
def test_lists_of_arrays_that_are_damaged(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "x.params"
    path.write_bytes(content)
    tracemalloc.start()
    with pytest.raises(ModelError, match=message):
        read_params(path)
    assert tracemalloc.get_traced_memory()[1] < 2**20
    tracemalloc.stop()


FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.integers(0, 255)), min_size=1, max_size=8)


def mutated(good: bytes, changes: list[tuple[int, int]]) -> bytes:
    found = bytearray(good)
    for at, byte in changes:
        found[at % len(found)] = byte
    return bytes(found)


@FUZZ
@given(CHANGES, st.booleans())
def test_a_caffe2_pair_with_other_bytes_loads_or_says_why(tmp_path: Path, changes: Any, predict: bool) -> None:
    relu, drop = operator("Relu", ["y"], ["y"]), operator("Dropout", ["y"], ["y", "mask"])
    pool = operator("Reshape", ["y"], ["z", "old"], shape=[0, 3])
    folder = pair(tmp_path / "c", FC, relu, drop, pool, outputs=("z",))
    path = folder / ("predict_net.pb" if predict else "init_net.pb")
    path.write_bytes(mutated(path.read_bytes(), changes))
    loads(CAFFE2, folder)


@FUZZ
@given(CHANGES, st.booleans())
def test_mxnet_files_with_other_bytes_load_or_say_why(tmp_path: Path, changes: Any, symbol: bool) -> None:
    mlp(tmp_path / "m")
    path = tmp_path / "m" / ("net-symbol.json" if symbol else "net-0000.params")
    path.write_bytes(mutated(path.read_bytes(), changes))
    loads(MXNET, tmp_path / "m")


def test_messages_are_skipped_where_they_are_not_known() -> None:
    net = messages().NetDef.FromString(b"\x2a\x02\x08\x01" + predict_net([FC]).SerializeToString())
    assert [op.type for op in net.op] == ["FC"]
