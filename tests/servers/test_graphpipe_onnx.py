"""``tensorwire-onnx``: graphpipe-onnx's flags and variables, each refused or served."""

from __future__ import annotations

import hashlib
import http.server
import json
import signal
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Start, first_line

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from caffe2_nets import operator, predict_net, write
from onnx_models import ELEMENT, save, tensor

from tensorwire import Client, remote
from tensorwire.servers import app as wiring
from tensorwire.servers.commands.graphpipe_onnx import main
from tensorwire.servers.embedded import DIGITS, heldout
from tensorwire.servers.engines import ort as engine
from tensorwire.servers.model import ModelError

FLOAT = ELEMENT.FLOAT
RUN = "import sys; from tensorwire.__main__ import onnx; sys.exit(onnx())"
VARIABLES = ("GP_MODEL", "GP_VALUE_INPUTS", "GP_INIT_NET", "GP_PREDICT_NET", "GP_ENGINE_COUNT", "GP_CACHE")


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Path, dict[str, Any]]]:
    """What would be served, instead of serving it."""
    calls: list[tuple[Path, dict[str, Any]]] = []

    def serve_model(path: Path, **options: Any) -> bool:
        calls.append((path, options))
        return True

    monkeypatch.setattr(wiring, "serve_model", serve_model)
    return calls


def described(folder: Path, **inputs: Any) -> Path:
    path = folder / "value_inputs.json"
    path.write_text(json.dumps(inputs))
    return path


def pool(folder: Path) -> Path:
    """A net that takes images of any size, declared with one size."""
    return save(
        folder,
        [("GlobalAveragePool", ["data_0"], ["y"])],
        [tensor("data_0", FLOAT, (1, 3, 8, 8))],
        [tensor("y", FLOAT, (1, 3, 1, 1))],
    )


def test_it_serves_what_the_original_client_asks(start: Start, tmp_path: Path) -> None:
    inputs = described(tmp_path, image=[1, [0, 8, 8]])
    server = start("-c", RUN, "--model", str(DIGITS), "--value-inputs", str(inputs), "--listen", "127.0.0.1:0")
    url = first_line(server).split()[2]
    images, labels = heldout()
    found = remote.execute(url, images[:20], "image", "label")
    assert (found == labels[:20]).mean() > 0.9
    server.send_signal(signal.SIGTERM)
    assert server.wait(60) == 0


def test_flags_and_variables_mean_what_they_meant(
    served: list[tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert main(["-m", str(DIGITS)]) == 0
    path, options = served.pop()
    assert path == DIGITS
    assert options["listen"] == "127.0.0.1:9000"
    assert options["engine"] == "onnx"
    assert options["engine_options"] == {"concurrency": 1, "device": "auto"}
    inputs = described(tmp_path, image=[1, [0, 8, 8]])
    monkeypatch.setenv("GP_MODEL", str(DIGITS))
    monkeypatch.setenv("GP_VALUE_INPUTS", str(inputs))
    monkeypatch.setenv("GP_ENGINE_COUNT", "5")
    assert main(["--disable-cuda", "-l", "127.0.0.1:9001", "--profile", "here"]) == 0
    _, options = served.pop()
    assert options["listen"] == "127.0.0.1:9001"
    expected = {"concurrency": 5, "device": "cpu", "profile": "here", "value_inputs": str(inputs)}
    assert options["engine_options"] == expected
    assert main(["--engine-count", "2"]) == 0
    assert served.pop()[1]["engine_options"]["concurrency"] == 2
    monkeypatch.delenv("GP_MODEL")
    for name in ("init", "predict"):
        (tmp_path / f"{name}.pb").touch()
    monkeypatch.setenv("GP_INIT_NET", str(tmp_path / "init.pb"))
    assert main(["--predict-net", str(tmp_path / "predict.pb")]) == 0
    path, options = served.pop()
    assert (path.name, options["engine"]) == ("predict.pb", "caffe2")
    assert options["engine_options"]["init_net"] == str(tmp_path / "init.pb")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "either --model (GP_MODEL), or --init-net (GP_INIT_NET) and --predict-net (GP_PREDICT_NET)"),
        (["-m", "m.onnx", "--init-net", "i.pb", "--predict-net", "p.pb"], "either --model (GP_MODEL), or"),
        (["--init-net", "i.pb"], "--init-net and --predict-net are a pair"),
        (["-m", "absent.onnx"], "no such file: absent.onnx"),
        (["-m", str(DIGITS), "--value-inputs", "absent.json"], "no such file: absent.json"),
        (["-m", str(DIGITS), "--engine-count", "0"], "--engine-count"),
        (["-m", str(DIGITS), "--engine-count", "33"], "--engine-count"),
        (["-m", str(DIGITS), "--listen", "nowhere"], "--listen: "),
    ],
)
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith("tensorwire-onnx: ")
    assert message in error
    assert error.count("\n") == 1


def test_help_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    import tensorwire

    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    for word in ("--value-inputs", "--engine-count", "--disable-cuda", "--cache-dir", "GP_PREDICT_NET"):
        assert word in out
    assert main(["-V"]) == 0
    assert capsys.readouterr().out == f"version {tensorwire.__version__}\n"


def test_sizes_in_value_inputs_take_the_place_of_the_models(tmp_path: Path) -> None:
    path = pool(tmp_path)
    x = np.random.default_rng(1).random((2, 3, 5, 7), np.float32)
    model = engine.ENGINE.load(path, options={"value_inputs": described(tmp_path, data_0=[1, [0, 3, 5, -1]])})
    assert model.signatures[model.default_signature].inputs[0].shape == (-1, 3, 5, -1)
    assert model.signatures[model.default_signature].outputs[0].shape == (-1, 3, 1, 1)
    np.testing.assert_allclose(model.run("", {"data_0": x}, ("y",))["y"], x.mean((2, 3), keepdims=True), rtol=1e-5)
    same = engine.ENGINE.load(path, options={"value_inputs": {"data_0": [1, [1, 3, 8, 8]]}})
    assert same.signatures[same.default_signature].inputs[0].shape == (1, 3, 8, 8)


def test_an_upgraded_or_made_model_takes_other_sizes_too(tmp_path: Path) -> None:
    content = pool(tmp_path).read_bytes()
    options = {"value_inputs": {"data_0": [1, [4, 3, 2, 2]]}}
    model = engine.ENGINE.load_bytes(content, Path("made.onnx"), options=options)
    assert model.run("", {"data_0": np.ones((4, 3, 2, 2), np.float32)}, ("y",))["y"].sum() == 12


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"data": [1, [1, 3, 8, 8]]}, "has no input 'data', it has 'data_0'"),
        ({"data_0": [2, [1, 3, 8, 8]]}, "input 'data_0' is float32, value_inputs says int32"),
        ({"data_0": [1, [3, 8, 8]]}, "input 'data_0' has 4 dimensions, value_inputs says 3"),
        ({"data_0": [1]}, "is not a type number and a shape"),
        ({"data_0": [99, [1]]}, "type 99 is none of"),
    ],
)
def test_value_inputs_that_do_not_fit_are_refused(tmp_path: Path, inputs: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        engine.ENGINE.load(pool(tmp_path), options={"value_inputs": described(tmp_path, **inputs)})
    assert message in str(caught.value)


def test_without_onnx_other_sizes_name_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = pool(tmp_path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ModelError, match="to serve it with other shapes than its own, run: pip install onnx"):
        engine.ENGINE.load(path, options={"value_inputs": {"data_0": [1, [2, 3, 8, 8]]}})


def test_the_metadata_is_what_the_file_says(start: Start, tmp_path: Path) -> None:
    args = ["--model", str(pool(tmp_path)), "--disable-cuda", "-l", "127.0.0.1:0", "--verbose"]
    server = start("-c", RUN, *args)
    with Client(first_line(server).split()[2]) as client:
        metadata = client.metadata()
        assert [(spec.name, spec.shape) for spec in metadata.inputs] == [("data_0", (1, 3, 8, 8))]
        assert client.infer({"data_0": np.ones((1, 3, 8, 8), np.float32)})["y"].tolist() == [[[[1]], [[1]], [[1]]]]
    server.terminate()
    assert server.wait(60) == 0


def test_flags_may_be_spelled_as_the_original_did(served: list[tuple[Path, dict[str, Any]]], tmp_path: Path) -> None:
    for name in ("init.pb", "predict.pb", "inputs.json"):
        (tmp_path / name).touch()
    flags = {"init_net": "init.pb", "predict_net": "predict.pb", "value_inputs": "inputs.json"}
    named = [word for flag, name in flags.items() for word in (f"--{flag}", str(tmp_path / name))]
    common = ["--cache", "--disable_cuda", "--engine_count", "3", "--dir", str(tmp_path / "kept")]
    assert main([*named, *common]) == 0
    (underscores,) = served
    assert main([word.replace("_", "-") if word.startswith("--") else word for word in [*named, *common]]) == 0
    for options in (underscores[1], served[1][1]):
        options.pop("on_ready")
    assert served[1] == underscores
    path, options = underscores
    assert path == tmp_path / "predict.pb"
    assert options["cache_dir"] == tmp_path / "kept"
    assert options["engine_options"] == {
        "concurrency": 3,
        "device": "cpu",
        "init_net": str(tmp_path / "init.pb"),
        "value_inputs": str(tmp_path / "inputs.json"),
    }


@pytest.mark.parametrize(("text", "kept"), [("true", True), ("1", True), ("0", False), ("foo", False)])
def test_the_cache_by_its_variable(
    served: list[tuple[Path, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch, text: str, kept: bool
) -> None:
    monkeypatch.setenv("GP_CACHE", text)
    assert main(["-m", str(DIGITS)]) == 0
    assert (served[0][1]["cache_dir"] is not None) == kept


def test_a_caffe2_pair_is_served_by_variables_from_urls(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, net and inputs come by http and are kept, and so are rows, which the original client asks for."""
    pytest.importorskip("google.protobuf", reason="reads the nets")
    site = tmp_path / "site"
    rng = np.random.default_rng(1)
    weight, bias = rng.standard_normal((4, 6)).astype(np.float32), rng.standard_normal(4).astype(np.float32)
    operators = [operator("FC", ["data", "w", "b"], ["fc"]), operator("Softmax", ["fc"], ["prob"])]
    write(site, predict_net(operators, ["data", "w", "b"], ["prob"]), {"w": weight, "b": bias})
    described(site, data=[1, [0, 6]])
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(site))
    monkeypatch.setattr(http.server.SimpleHTTPRequestHandler, "log_message", lambda *_: None)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("GP_INIT_NET", f"{url}/init_net.pb")
        monkeypatch.setenv("GP_PREDICT_NET", f"{url}/predict_net.pb")
        monkeypatch.setenv("GP_VALUE_INPUTS", f"{url}/value_inputs.json")
        monkeypatch.setenv("GP_CACHE", "true")
        process = start("-c", RUN, "--listen", "127.0.0.1:0", "--cache-dir", str(tmp_path / "kept"))
        address = first_line(process).split()[2]
        server.shutdown()
    x = rng.standard_normal((5, 6)).astype(np.float32)
    scores = x @ weight.T + bias
    expected = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    for _ in range(2):
        np.testing.assert_allclose(remote.execute(address, x), expected, rtol=1e-4)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 0, told
    for name in ("init_net.pb", "predict_net.pb", "value_inputs.json"):
        digest = hashlib.sha256((site / name).read_bytes()).hexdigest()
        assert f"{url}/{name}: downloaded" in told and digest in told
    assert (tmp_path / "kept/tensorwire-rows/data.mdb").stat().st_size
