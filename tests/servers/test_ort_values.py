"""ONNX Runtime: sequences and maps as tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from onnx import helper
from onnx_models import ELEMENT, save, tensor

from tensorwire import TensorSpec
from tensorwire.servers.engines import ort as engine
from tensorwire.servers.model import Model

FLOAT = ELEMENT.FLOAT
X = np.array([[0.1, 0.7, 0.2], [0.5, 0.25, 0.25]], np.float32)


def load(path: Path, **options: Any) -> Model:
    return engine.ENGINE.load(path, options=options)


def classifier(folder: Path, **labels: Any) -> Path:
    """A ZipMap, as classifiers of scikit-learn are exported: a list of maps from class to probability."""
    key = ELEMENT.INT64 if "classlabels_int64s" in labels else ELEMENT.STRING
    maps = helper.make_sequence_type_proto(helper.make_map_type_proto(key, helper.make_tensor_type_proto(FLOAT, None)))
    node = helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", **labels)
    nodes = [node, helper.make_node("ArgMax", ["x"], ["best"], axis=1, keepdims=0)]
    outputs = [helper.make_value_info("scores", maps), tensor("best", ELEMENT.INT64, None)]
    return save(folder, nodes, [tensor("x", FLOAT, ("n", 3))], outputs, domains=[("ai.onnx.ml", 3)])


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"classlabels_int64s": [7, -1, 30]}, "classes: 7, -1, 30"),
        ({"classlabels_strings": ["setosa", "é", "a"]}, "classes: setosa, é, a"),
    ],
)
def test_a_classifiers_maps_are_columns_in_the_order_of_its_classes(tmp_path: Path, labels: Any, text: str) -> None:
    model = load(classifier(tmp_path, **labels))
    spec = model.signatures[model.default_signature].outputs[0]
    assert spec == TensorSpec("scores", np.float32, (-1, 3), description=text)
    found = model.run("", {"x": X}, ("scores", "best"))
    assert found["scores"].dtype == np.float32
    np.testing.assert_array_equal(found["scores"], X)
    assert found["best"].tolist() == [1, 0]
    assert list(model.run("", {"x": X}, ("best",))) == ["best"]
    assert model.run("", {"x": X[:0]}, ("scores",))["scores"].shape == (0, 3)


def test_maps_without_known_classes_are_sorted_by_label(tmp_path: Path) -> None:
    from tensorwire.servers.engines.ort.values import map_columns

    convert = map_columns("scores", None, np.dtype(np.float32))
    assert convert([{"b": 1.0, "a": 2.0}, {"a": 3.0, "b": 4.0}]).tolist() == [[2, 1], [3, 4]]
    assert convert([]).shape == (0, 0)
    with pytest.raises(ValueError, match="output 'scores': row 1 has 1 classes, expected 2"):
        convert([{"b": 1.0, "a": 2.0}, {"a": 3.0}])
    with pytest.raises(ValueError, match="output 'scores': row 1 has no class 'b'"):
        convert([{"b": 1.0, "a": 2.0}, {"a": 3.0, "c": 1.0}])


def sequence(folder: Path, element: int, inputs: list[str]) -> Model:
    out = helper.make_tensor_sequence_value_info("s", element, None)
    ins = [tensor(name, element, None) for name in dict.fromkeys(inputs)]
    return load(save(folder, [("SequenceConstruct", inputs, ["s"])], ins, [out]))


@pytest.mark.parametrize(("dtype", "element"), [(np.float32, FLOAT), (np.int64, ELEMENT.INT64), (bool, ELEMENT.BOOL)])
def test_a_sequence_of_equal_shapes_is_one_tensor(tmp_path: Path, dtype: Any, element: int) -> None:
    model = sequence(tmp_path, element, ["a", "b", "a"])
    assert model.signatures[model.default_signature].outputs == (TensorSpec("s", dtype, ()),)
    a, b = np.arange(6).reshape(2, 3).astype(dtype), np.ones((2, 3), dtype)
    found = model.run("", {"a": a, "b": b}, ("s",))["s"]
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.stack([a, b, a]))
    with pytest.raises(ValueError, match=r"'s' is a sequence of tensors of different shapes \(\[1, 3\], \[2, 3\]\)"):
        model.run("", {"a": a, "b": b[:1]}, ("s",))


def test_a_sequence_of_texts_is_one_tensor_of_bytes(tmp_path: Path) -> None:
    model = sequence(tmp_path, ELEMENT.STRING, ["a", "b"])
    found = model.run("", {"a": np.array(["é", "x"], object), "b": np.array([b"", b"y"], object)}, ("s",))["s"]
    assert found.tolist() == [["é".encode(), b"x"], [b"", b"y"]]


def test_an_empty_sequence_is_an_empty_tensor(tmp_path: Path) -> None:
    out = helper.make_tensor_sequence_value_info("s", ELEMENT.DOUBLE, None)
    empty = helper.make_node("SequenceEmpty", [], ["s"], dtype=ELEMENT.DOUBLE)
    nodes = [empty, ("Relu", ["x"], ["y"])]
    model = load(save(tmp_path, nodes, [tensor("x", FLOAT)], [out, tensor("y", FLOAT)]))
    found = model.run("", {"x": X[0]}, ("s",))["s"]
    assert (found.shape, found.dtype) == ((0,), np.float64)
