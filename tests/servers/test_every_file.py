"""Every file of the folder of test data is served with a known answer, refused with a reason, or no model."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from tensorwire.servers.cli import main
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import ModelError

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="TENSORWIRE_TEST_DATA is not set")
ROOT = Path(DATA or "")
SIMPLE = "simple_tensorflow_serving"
SERVING = "tensorflow_serving"
# A tf.Example whose one feature, b, is a list of the one float 0.5.
EXAMPLE = bytes.fromhex("0a0f0a0d0a0162120812060a040000003f")


class Served(NamedTuple):
    """The package that runs it, how its engine begins, what is asked, and what holds of the answer."""

    package: str
    engine: str
    inputs: dict[str, Any]
    holds: Callable[[Any], bool]


def halved(y: Any) -> bool:
    return bool(y["y"].tolist() == [[3.5]])


def sums_to_one(name: str, shape: tuple[int, ...]) -> Callable[[Any], bool]:
    return lambda y: y[name].shape == shape and np.allclose(y[name].sum(1), 1, rtol=1e-5)


def near(name: str, value: Any) -> Callable[[Any], bool]:
    return lambda y: np.allclose(y[name], value, rtol=1e-4)


X = np.array([[3.0]], np.float32)
BOARD = np.zeros((1, 2, 6, 7), np.float32)
ROWS = {"keys": np.array([[1]], np.int32), "features": np.ones((1, 9), np.float32)}
PICTURE = f"{SIMPLE}/images/mew.jpg"
POLICY = [0.01874428, 0.03854665, 0.04214811, 0.72068876, 0.10063016, 0.05238358, 0.02685838]
SERVED = {
    **{
        f"{SERVING}/saved_model_half_plus_two_{name}": Served("tensorflow", "TensorFlow 2", {"x": X}, halved)
        for name in ("2_versions/00000123", "2_versions/00000124", "cpu/00000123", "mkl/00000123")
    },
    f"{SERVING}/saved_model_half_plus_two_tflite/00000123/model.tflite": Served(
        "tensorflow", "TensorFlow Lite", {"x": X}, halved
    ),
    **{
        f"graphpipe/az4/az4.{step}.pb": Served(
            "tensorflow", "TensorFlow 2", {"input_1:0": BOARD}, sums_to_one("policy_out/Softmax:0", (1, 7))
        )
        for step in ("000001", "000010")
    },
    "graphpipe/az4/az4.000050.pb": Served(
        "tensorflow", "TensorFlow 2", {"input_1:0": BOARD}, near("policy_out/Softmax:0", POLICY)
    ),
    f"{SIMPLE}/tensorflow_template_application_model/1": Served(
        "tensorflow", "TensorFlow 2", ROWS, near("softmax", [[0.61554497, 0.38445505]])
    ),
    f"{SIMPLE}/tensorflow_template_application_model/2": Served(
        "tensorflow", "TensorFlow 2", ROWS, sums_to_one("softmax", (1, 2))
    ),
    f"{SIMPLE}/simplest_model/1": Served(
        "tensorflow", "TensorFlow 2", {"keys": ROWS["keys"]}, lambda y: y["keys"].tolist() == [[1]]
    ),
    f"{SIMPLE}/tensorflow_estimator_model/1533527330": Served(
        "tensorflow",
        "TensorFlow 2",
        {"inputs": np.array([EXAMPLE], object)},
        lambda y: y["classes"].tolist() == [[b"0", b"1"]],
    ),
    f"{SIMPLE}/deep_image_model/1": Served(
        "tensorflow", "TensorFlow 2", {"images": PICTURE}, sums_to_one("softmax", (1, 17))
    ),
    f"{SIMPLE}/onnx_mnist_model/onnx_model.proto": Served(
        "onnx",
        "onnxruntime",
        {"1": np.ones((1, 1, 28, 28), np.float32)},
        lambda y: np.allclose(np.exp(y["32"]).sum(1), 1, rtol=1e-5),
    ),
    f"{SIMPLE}/mxnet_mlp": Served(
        "onnx", "onnxruntime", {"data": np.zeros((3, 2), np.float32)}, lambda y: np.ptp(y["lro"]) == 0
    ),
}
OLD = "written by scikit-learn 0.19.1, which"
BINARY = "XGBoost's old binary format, written by a version before 1.0, which XGBoost"
PICKLE = {"allow_pickle": True}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "graphpipe/caffe2": ("onnx", {}, "its weights are missing: no init_net beside it"),
    f"{SIMPLE}/scikitlearn_iris/model.joblib": ("sklearn", PICKLE, OLD),
    f"{SIMPLE}/scikitlearn_iris/model.pkl": ("sklearn", PICKLE, OLD),
    f"{SIMPLE}/xgboost_iris/model.bst": ("xgboost", {}, BINARY),
    f"{SIMPLE}/xgboost_iris/model.joblib": ("xgboost", PICKLE, BINARY),
    f"{SIMPLE}/xgboost_iris/model.pkl": ("xgboost", PICKLE, BINARY),
    f"{SIMPLE}/h2o_prostate_model/GLM_model_python_1525255083960_17": ("", {}, "a binary model of H2O 3.18.0.8"),
    f"{SIMPLE}/mllib_lr_model": ("", {}, "a LogisticRegressionModel of Spark ML 2.3.2"),
    f"{SIMPLE}/pmml_iris/DecisionTreeIris.pmml": ("", {}, "a PMML model"),
    **{
        f"{SERVING}/{name}_config.txt": ("", {}, "not a format of a known engine")
        for name in ("good_model", "bad_model", "batching", "monitoring")
    },
    "graphpipe/mug227.png": ("", {}, "not a format of a known engine"),
}
NO_MODELS = (
    "README.md",
    "graphpipe/wire_vectors",
    "graphpipe/squeezenet.value_inputs.json",
    PICTURE,
    f"{SIMPLE}/h2o_prostate_model/prostate_test_data.json",
    f"{SERVING}/half_plus_two_model_metadata.json",
    f"{SERVING}/saved_model_half_plus_two_2_versions_metadata.json",
)


def test_no_file_is_forgotten() -> None:
    known = {*SERVED, *REFUSED, *NO_MODELS}
    files = [path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file()]
    assert files
    forgotten = [str(file) for file in files if not known & {str(file), *map(str, file.parents)}]
    assert forgotten == []
    assert [name for name in sorted(known) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", sorted(SERVED))
def test_a_file_that_is_served(name: str) -> None:
    about = SERVED[name]
    pytest.importorskip(about.package, reason="runs the model")
    model = load_model(ROOT / name)
    try:
        assert model.engine.startswith(about.engine)
        signature = model.signatures[model.default_signature]
        inputs = {key: picture() if value is PICTURE else value for key, value in about.inputs.items()}
        assert {spec.name: spec.dtype for spec in signature.inputs} == {
            key: value.dtype for key, value in inputs.items()
        }
        found = model.run("", inputs, tuple(spec.name for spec in signature.outputs))
        assert {key: value.dtype for key, value in found.items()} == {
            spec.name: spec.dtype for spec in signature.outputs
        }
        assert about.holds(found)
        for key, value in directly(ROOT / name, inputs, list(found)).items():
            if value.dtype == object:
                assert found[key].tolist() == value.tolist()
            else:
                np.testing.assert_allclose(found[key], value, rtol=1e-4, atol=1e-6)
    finally:
        model.close()


def directly(path: Path, inputs: dict[str, Any], outputs: list[str]) -> dict[str, Any]:
    """What the framework itself answers, called as its users do; nothing for what it does not read, an old ONNX
    model among them.
    """
    if path.suffix == ".pb":
        tf = pytest.importorskip("tensorflow").compat.v1
        graph_def = tf.GraphDef.FromString(path.read_bytes())
        with tf.Graph().as_default(), tf.Session() as session:
            tf.import_graph_def(graph_def, name="")
            return dict(zip(outputs, session.run(outputs, inputs), strict=True))
    if (path / "saved_model.pb").is_file():
        tf = pytest.importorskip("tensorflow")
        function = tf.saved_model.load(str(path)).signatures["serving_default"]
        found = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return {name: found[name].numpy() for name in outputs}
    return {}


def picture() -> Any:
    return np.array([base64.urlsafe_b64encode((ROOT / PICTURE).read_bytes())], object)


@pytest.mark.parametrize("name", sorted(SERVED))
def test_what_is_in_it_is_shown(name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    about = SERVED[name]
    pytest.importorskip(about.package, reason="reads the model")
    monkeypatch.setenv("COLUMNS", "200")
    assert main(["inspect", str(ROOT / name)]) == 0
    shown = capsys.readouterr().out
    for text in (f"engine: {about.engine}", "size: ", *about.inputs):
        assert text in shown


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_a_file_that_is_not_served_says_why(name: str) -> None:
    package, options, reason = REFUSED[name]
    if package:
        pytest.importorskip(package, reason="reads the file")
    with pytest.raises(ModelError) as caught:
        load_model(ROOT / name, options=options)
    text = str(caught.value)
    assert text.startswith(f"{ROOT / name}") and "\n" not in text
    assert reason in text
