"""TensorFlow models that others made, years ago: each is served, and answers as the framework called directly does."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models
from tf_models import call, load

from tensorwire import Client, remote
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.model import RequestError

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
pytestmark = [
    pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow"),
    pytest.mark.skipif(DATA is None, reason="needs TENSORWIRE_TEST_DATA"),
]
ROOT = Path(DATA or ".")
SERVING = ROOT / "tensorflow_serving"
SIMPLE = ROOT / "simple_tensorflow_serving"
AZ4 = ROOT / "graphpipe/az4"

HALF_PLUS_TWO = [
    "saved_model_half_plus_two_2_versions/00000123",
    "saved_model_half_plus_two_2_versions/00000124",
    "saved_model_half_plus_two_cpu/00000123",
    "saved_model_half_plus_two_mkl/00000123",
]
EMPTY_BOARD = (
    [0.01874428, 0.03854665, 0.04214811, 0.72068876, 0.10063016, 0.05238359, 0.02685838],
    0.24725394,
)


def example(**features: float) -> bytes:
    """A serialized tf.Example, which classify and regress signatures take."""
    tf = models.tensorflow()
    made = {name: tf.train.Feature(float_list=tf.train.FloatList(value=[x])) for name, x in features.items()}
    return bytes(tf.train.Example(features=tf.train.Features(feature=made)).SerializeToString())


def directly(path: Path, signature: str, feeds: dict[str, Any]) -> dict[str, Any]:
    """What TensorFlow's own loader and function answer."""
    tf = models.tensorflow()
    loaded = tf.saved_model.load(str(path))
    types = loaded.signatures[signature].structured_input_signature[1]
    found = loaded.signatures[signature](**{name: tf.constant(x, types[name].dtype) for name, x in feeds.items()})
    return {name: tensor.numpy() for name, tensor in found.items()}


def same_as_directly(path: Path, model: Any, signature: str, feeds: dict[str, Any]) -> dict[str, Any]:
    found = call(model, signature, **feeds)
    expected = directly(path, signature, feeds)
    assert set(found) == set(expected)
    for name, value in expected.items():
        if value.dtype == object:
            assert found[name].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(found[name], value, rtol=1e-5)
    return dict(found)


@pytest.mark.parametrize("name", HALF_PLUS_TWO)
def test_half_plus_two_with_all_its_signatures(name: str) -> None:
    path = SERVING / name
    model = load(path)
    assert model.default_signature == "serving_default"
    assert len(model.signatures) in (5, 6)
    x = np.array([[1.0], [2.0], [5.0]], np.float32)
    if "mkl" in name:  # its outputs are added to a picture of one row
        x = x[:1]
    else:
        np.testing.assert_allclose(same_as_directly(path, model, "serving_default", {"x": x})["y"], x / 2 + 2)
    for signature, declared in model.signatures.items():
        (spec,) = declared.inputs
        texts = np.array([example(x=row[0], x2=3.0) for row in x], object)
        same_as_directly(path, model, signature, {spec.name: texts if spec.dtype == object else x})


def test_two_versions_are_served_side_by_side() -> None:
    folder = SIMPLE / "tensorflow_template_application_model"
    first, second = load(folder / "1"), load(folder / "2")
    feeds = {"keys": np.array([[1]], np.int32), "features": np.ones((1, 9), np.float32)}
    found = same_as_directly(folder / "1", first, "serving_default", feeds)
    np.testing.assert_allclose(found["softmax"], [[0.61554497, 0.38445505]], rtol=1e-5)
    assert found["keys"].tolist() == [[1]]
    assert found["prediction"].tolist() == [0]
    other = same_as_directly(folder / "2", second, "serving_default", feeds)
    assert not np.allclose(found["softmax"], other["softmax"])
    np.testing.assert_allclose(call(first, **feeds)["softmax"], found["softmax"])


def test_the_simplest_model_and_the_estimator() -> None:
    keys = np.array([[1], [7]], np.int32)
    simplest = SIMPLE / "simplest_model/1"
    same_as_directly(simplest, load(simplest), "serving_default", {"keys": keys})
    estimator = SIMPLE / "tensorflow_estimator_model/1533527330"
    model = load(estimator)
    for signature in ("serving_default", "default_input_alternative:None"):
        found = same_as_directly(estimator, model, signature, {"inputs": np.array([example(b=0.5)], object)})
        assert found["classes"].tolist() == [[b"0", b"1"]]
    with pytest.raises(RequestError, match=r"Feature: b \(data type: float\) is required but could not be found"):
        call(model, inputs=np.array([example()], object))


def test_pictures_go_in_as_text() -> None:
    path = SIMPLE / "deep_image_model/1"
    picture = base64.urlsafe_b64encode((SIMPLE / "images/mew.jpg").read_bytes())
    found = same_as_directly(path, load(path), "serving_default", {"images": np.array([picture], object)})
    assert found["softmax"].shape == (1, 17)
    np.testing.assert_allclose(found["softmax"].sum(), 1, rtol=1e-5)


def test_half_plus_two_of_tflite() -> None:
    model = load(SERVING / "saved_model_half_plus_two_tflite/00000123/model.tflite")
    assert call(model, x=np.array([[3.0]], np.float32))["y"].tolist() == [[3.5]]


@pytest.mark.parametrize("step", ["000001", "000010", "000050"])
def test_four_in_a_row_for_any_number_of_boards(step: str) -> None:
    tf = models.tensorflow()
    path = AZ4 / f"az4.{step}.pb"
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    names = ["policy_out/Softmax:0", "value_out/Tanh:0"]
    asked = [(np.random.default_rng(rows).random((rows, 2, 6, 7)) < 0.2).astype(np.float32) for rows in (1, 3, 128)]
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.import_graph_def(graph_def, name="")
        answers = [session.run(names, {"input_1:0": boards}) for boards in asked]
    model = load(path)
    for boards, expected in zip(asked, answers, strict=True):
        found = call(model, **{"input_1:0": boards})
        for name, value in zip(names, expected, strict=True):
            np.testing.assert_allclose(found[name], value, rtol=1e-3, atol=1e-5)


@pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")
def test_both_clients_get_the_same_answer_over_the_wire() -> None:
    graphpipe = pytest.importorskip("graphpipe.remote", reason="asks with the original client")
    board = np.zeros((1, 2, 6, 7), np.float32)
    with BackgroundServer(load(AZ4 / "az4.000050.pb")) as server, Client(server.url) as client:
        for ask in (graphpipe.execute, remote.execute):
            policy, value = ask(server.url, board)
            np.testing.assert_allclose(policy[0], EMPTY_BOARD[0], rtol=1e-4)
            np.testing.assert_allclose(value[0, 0], EMPTY_BOARD[1], rtol=1e-4)
            for given, wanted in (("input_1", "value_out/Tanh"), ("input_1:0", "value_out/Tanh:0")):
                np.testing.assert_allclose(ask(server.url, board, given, wanted), value)
        assert graphpipe.get_input_names(server.url) == ["input_1:0"]
        found = client.infer({"input_1": board}, outputs=["policy_out/Softmax"])
        np.testing.assert_allclose(found["policy_out/Softmax"][0], EMPTY_BOARD[0], rtol=1e-4)
