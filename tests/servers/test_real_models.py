"""TensorFlow models that others made, several at once: from each kind of configuration, and swapped under load."""

from __future__ import annotations

import json
import os
import shutil
import threading
from functools import partial
from operator import ge
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models
from rawhttp import Raw, head
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines import registry
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
pytestmark = [
    pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow"),
    pytest.mark.skipif(DATA is None, reason="TENSORWIRE_TEST_DATA is not set"),
]
ROOT = Path(DATA or "")
SERVING = ROOT / "tensorflow_serving"
SIMPLE = ROOT / "simple_tensorflow_serving"
AZ4 = ROOT / "graphpipe/az4"
PLACES = {
    "two_versions": SERVING / "saved_model_half_plus_two_2_versions",
    "cpu": SERVING / "saved_model_half_plus_two_cpu",
    "tflite": SERVING / "saved_model_half_plus_two_tflite",
    "template": SIMPLE / "tensorflow_template_application_model",
    "simplest": SIMPLE / "simplest_model",
    "estimator": SIMPLE / "tensorflow_estimator_model",
    "image": SIMPLE / "deep_image_model",
    "mkl": SERVING / "saved_model_half_plus_two_mkl",
    "mlp": SIMPLE / "mxnet_mlp",
    "mnist": SIMPLE / "onnx_mnist_model/onnx_model.proto",
}
PLATFORMS = {"mlp": "mxnet", "mnist": "onnx"}  # the others' is tensorflow
NEWEST = {
    "two_versions": 124,
    "cpu": 123,
    "tflite": 123,
    "template": 2,
    "simplest": 1,
    "estimator": 1533527330,
    "image": 1,
    "mkl": 123,
    "mlp": 1,
    "mnist": 1,
}
BOARD = np.zeros((1, 2, 6, 7), np.float32)
POLICY = "policy_out/Softmax:0"


def toml() -> str:
    tables = [f'[models.{name}]\npath = "{path}"\n' for name, path in PLACES.items()]
    return "".join(tables).replace('_2_versions"\n', '_2_versions"\nversions = "all"\nlabels = { old = 123 }\n')


def text_protocol_buffer() -> str:
    rows = [
        f'config {{ name: "{name}" base_path: "{path}" model_platform: "{PLATFORMS.get(name, "tensorflow")}" }}'
        for name, path in PLACES.items()
    ]
    more = 'model_version_policy { all {} } version_labels { key: "old" value: 123 } model_platform'
    rows[0] = rows[0].replace("model_platform", more)
    return f"model_config_list {{ {' '.join(rows)} }}"


def jsons() -> str:
    rows = [
        {"name": name, "base_path": str(path), "platform": PLATFORMS.get(name, "tensorflow")}
        for name, path in PLACES.items()
    ]
    return json.dumps({"model_config_list": rows})


def test_a_configuration_of_simple_tensorflow_serving_as_its_page_has_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Relative paths, MXNet's by what the names of its files begin with, and options of a session."""
    monkeypatch.chdir(SIMPLE.parent)
    config = tmp_path / "models.json"
    session = {
        "log_device_placement": True,
        "allow_soft_placement": True,
        "allow_growth": True,
        "per_process_gpu_memory_fraction": 0.5,
    }
    row = {"name": "template", "base_path": f"./{SIMPLE.name}/tensorflow_template_application_model/"}
    mxnet = {"name": "mlp", "base_path": f"./{SIMPLE.name}/mxnet_mlp/mx_mlp", "platform": "mxnet"}
    rows = [{**row, "platform": "tensorflow", "session_config": session}, mxnet]
    config.write_text(json.dumps({"model_config_list": rows}))
    with BackgroundServer(config=config, poll=0) as server, tw.Client(server.url) as client:
        wait_until(lambda: server.app.service.ready)
        x = np.array([[12.0, 2.0]], np.float32)
        ((name, answer),) = client.infer({"data": x}, model="mlp").items()
        same = registry.load_model(SIMPLE / "mxnet_mlp").run("", {"data": x}, [name])
        np.testing.assert_array_equal(answer, same[name])
        features = {"keys": np.array([[1]], np.int32), "features": np.ones((1, 9), np.float32)}
        assert client.infer(features, ["keys"], model="template")["keys"].tolist() == [[1]]


@pytest.mark.parametrize(
    ("file", "write"), [("models.toml", toml), ("model_config.txt", text_protocol_buffer), ("models.json", jsons)]
)
def test_they_are_served_together_from_each_kind_of_configuration(tmp_path: Path, file: str, write: Any) -> None:
    (tmp_path / file).write_text(write())
    x = np.array([[3.0]], np.float32)
    with BackgroundServer(config=tmp_path / file, poll=0) as server, tw.Client(server.url) as client:
        wait_until(lambda: server.app.service.ready)
        found = {status.name: status for status in server.app.service.status()}
        assert {name: status.versions[0].number for name, status in found.items()} == NEWEST
        for name in ("two_versions", "cpu", "tflite"):
            assert client.infer({"x": x}, ["y"], model=name)["y"].tolist() == [[3.5]]
        wait_until(
            lambda: all(version.available for version in server.app.service.status("two_versions")[0].versions)
        )
        fields: list[dict[str, Any]] = [{"version": 123}, {"label": "old"}]
        for field in fields[:1] if file.endswith(".json") else fields:  # JSON has no place for labels
            assert client.infer({"x": x}, ["y"], model="two_versions", **field)["y"].tolist() == [[3.5]]
        rows = {"keys": np.array([[1]], np.int32), "features": np.ones((1, 9), np.float32)}
        expected = directly(PLACES["template"] / "2", **rows)["softmax"]
        softmax = client.infer(rows, ["softmax"], model="template")["softmax"]
        np.testing.assert_allclose(softmax, expected, rtol=1e-5)
        assert client.infer({"keys": rows["keys"]}, ["keys"], model="simplest")["keys"].tolist() == [[1]]
        for name in PLATFORMS:
            same_as_loaded(client, name)


def same_as_loaded(client: tw.Client, name: str) -> None:
    """A model of another framework answers what its engine does when it is called directly."""
    model = registry.load_model(PLACES[name])
    (signature,) = model.signatures.values()
    random = np.random.default_rng(7)
    inputs = {
        spec.name: random.random([max(size, 1) for size in spec.shape]).astype(spec.dtype) for spec in signature.inputs
    }
    outputs = [spec.name for spec in signature.outputs]
    found = client.infer(inputs, outputs, model=name)
    for output, array in model.run(signature.name, inputs, outputs).items():
        np.testing.assert_allclose(found[output], array, rtol=1e-5)


def test_what_cannot_be_loaded_leaves_the_others_serving(tmp_path: Path) -> None:
    """Old pickles and XGBoost's old binary beside a SavedModel: each says what is wrong, and nothing else suffers."""
    places = {
        "sklearn": SIMPLE / "scikitlearn_iris/model.joblib",
        "xgboost": SIMPLE / "xgboost_iris/model.bst",
        "cpu": PLACES["cpu"],
    }
    reasons = {"sklearn": "reading it runs any code that its maker put in", "xgboost": "old binary format"}
    config = RepositoryConfig(
        models=tuple(ModelConfig(name=name, path=str(path), settle=0, attempts=1) for name, path in places.items())
    )
    with BackgroundServer(config=config, poll=0) as server, tw.Client(server.url) as client:
        service = server.app.service
        wait_until(
            lambda: [status.versions[0].state if status.versions else "" for status in service.status()]
            == ["END", "END", "AVAILABLE"]
        )
        assert client.infer({"x": np.array([[3.0]], np.float32)}, ["y"], model="cpu")["y"].tolist() == [[3.5]]
        for name, reason in reasons.items():
            assert reason in service.status(name)[0].versions[0].error
            with pytest.raises(tw.RemoteError, match=reason) as caught:
                client.infer({"x": np.zeros((1, 4), np.float32)}, model=name)
            assert caught.value.code == 503
        assert not service.ready


def directly(path: Path, **inputs: Any) -> dict[str, Any]:
    """What TensorFlow's own loader and function answer."""
    tf = models.tensorflow()
    loaded = tf.saved_model.load(str(path))
    found = loaded.signatures["serving_default"](**{name: tf.constant(x) for name, x in inputs.items()})
    return {name: tensor.numpy() for name, tensor in found.items()}


def policy(path: Path) -> Any:
    """What TensorFlow's own session answers for the empty board."""
    tf = models.tensorflow()
    graph_def = tf.compat.v1.GraphDef()
    graph_def.ParseFromString(path.read_bytes())
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.import_graph_def(graph_def, name="")
        return session.run(POLICY, {"input_1:0": BOARD})


class Callers:
    """Clients that ask for a label over and over; every answer must be that of a version allowed for the label."""

    def __init__(self, url: str, labels: tuple[str, ...], known: dict[int, Any]) -> None:
        self.allowed: dict[str, set[int]] = {}
        self.wrong: list[object] = []
        self.answered = [0] * len(labels)
        self._known = known
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(url, place, label)) for place, label in enumerate(labels)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def all_again(self) -> None:
        """Wait until each has had an answer that it asked for after now."""
        wanted = [count + 2 for count in self.answered]
        wait_until(lambda: bool(self.wrong) or all(map(ge, self.answered, wanted)))

    def _ask(self, url: str, place: int, label: str) -> None:
        with tw.Client(url, retries=0) as client:
            while not self._stop.is_set():
                try:
                    found = client.infer({"input_1:0": BOARD}, [POLICY], model="az4", label=label)[POLICY]
                except Exception as error:
                    self.wrong.append(error)
                    return
                version = min(self._known, key=lambda number: float(np.abs(self._known[number] - found).max()))
                if (
                    not np.allclose(found, self._known[version], rtol=1e-3, atol=1e-5)
                    or version not in self.allowed[label]
                ):
                    self.wrong.append((label, version, found))
                self.answered[place] += 1


def set_labels(server: BackgroundServer, **labels: int) -> None:
    body = json.dumps(labels).encode()
    with Raw(server.url) as raw:
        fields = ("Authorization: Bearer word", f"Content-Length: {len(body)}")
        raw.send(head("PUT", "/v1/models/az4/labels", *fields) + body)
        assert raw.answer().status == 200


def available(server: BackgroundServer, *numbers: int) -> bool:
    versions = server.app.service.status("az4")[0].versions
    return tuple(version.number for version in versions if version.state != "END") == numbers and all(
        version.available for version in versions if version.number in numbers
    )


def test_three_steps_of_one_network_change_places_under_load_and_no_request_fails(tmp_path: Path) -> None:
    known = {step: policy(AZ4 / f"az4.{step:06}.pb") for step in (1, 10, 50)}
    base = tmp_path / "az4"

    def put(step: int) -> None:
        (tmp_path / "new").mkdir()
        shutil.copyfile(AZ4 / f"az4.{step:06}.pb", tmp_path / "new/az4.pb")
        (tmp_path / "new").rename(base / str(step))

    base.mkdir()
    put(1)
    put(10)
    config = ModelConfig(
        name="az4", path=str(base), settle=0, policy=VersionPolicy(latest=0), labels={"stable": 1, "canary": 10}
    )
    with BackgroundServer(config=RepositoryConfig(models=(config,)), poll=0.05, admin_token="word") as server:
        wait_until(partial(available, server, 10, 1))
        callers = Callers(server.url, ("stable", "canary", "stable", "canary"), known)
        callers.allowed = {"stable": {1}, "canary": {10}}
        callers.start()
        try:
            callers.all_again()
            put(50)
            wait_until(partial(available, server, 50, 10, 1))
            callers.allowed = {"stable": {1, 10}, "canary": {10, 50}}
            set_labels(server, stable=10, canary=50)
            callers.all_again()
            callers.allowed = {"stable": {10}, "canary": {50}}
            callers.all_again()
            shutil.rmtree(base / "1")
            wait_until(partial(available, server, 50, 10))
            callers.allowed = {"stable": {10, 50}, "canary": {50}}
            set_labels(server, stable=50, canary=50)
            callers.all_again()
            callers.allowed = {"stable": {50}, "canary": {50}}
            shutil.rmtree(base / "10")
            wait_until(partial(available, server, 50))
            callers.all_again()
        finally:
            callers.stop()
    assert callers.wrong == []
