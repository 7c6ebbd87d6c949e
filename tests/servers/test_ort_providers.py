"""ONNX Runtime: execution providers, session options, operators of one's own."""

from __future__ import annotations

import ctypes
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
pytest.importorskip("onnx", reason="these models are made with onnx")

from onnx import helper
from onnx_models import ELEMENT, save, tensor

from tensorwire.servers.engines import ort as engine
from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.ort import engine as loading
from tensorwire.servers.engines.ort import providers
from tensorwire.servers.engines.ort.providers import Provider, check_built, device_of, read_providers
from tensorwire.servers.model import Model, ModelError

FLOAT = ELEMENT.FLOAT
KNOWN = [f"{name}ExecutionProvider" for name in ("Tensorrt", "CUDA", "OpenVINO", "XNNPACK", "CPU")]
X = np.arange(-3, 3, dtype=np.float32)


def load(path: Path, **options: Any) -> Model:
    return engine.ENGINE.load(path, options=options)


def relu(folder: Path) -> Path:
    return save(folder, [("Relu", ["x"], ["y"])], [tensor("x", FLOAT)], [tensor("y", FLOAT)])


def read(**options: Any) -> list[tuple[str, dict[str, str]]]:
    given = Options("onnx", options)
    found = read_providers(given, KNOWN)
    given.end(Path("m.onnx"))
    return [(provider.short, provider.options) for provider in found]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [("CPU", {})]),
        ({"device": "cpu"}, [("CPU", {})]),
        ({"device": "cuda"}, [("CUDA", {})]),
        ({"device": "CUDA:1"}, [("CUDA", {"device_id": "1"})]),
        ({"providers": "tensorrt, cuda,CPUExecutionProvider"}, [("Tensorrt", {}), ("CUDA", {}), ("CPU", {})]),
        ({"providers": ["openvino"], "device": ""}, [("OpenVINO", {})]),
        ({"providers": "cuda:2"}, [("CUDA", {"device_id": "2"})]),
        (
            {"providers": "cuda:gpu_mem_limit=1000;cudnn_conv_algo_search=HEURISTIC,cpu"},
            [("CUDA", {"gpu_mem_limit": "1000", "cudnn_conv_algo_search": "HEURISTIC"}), ("CPU", {})],
        ),
        ({"providers": [("cuda", {"device_id": 1}), "cpu"]}, [("CUDA", {"device_id": "1"}), ("CPU", {})]),
        (
            {"providers": "tensorrt,cuda:0", "device": "cuda:3"},
            [("Tensorrt", {"device_id": "3"}), ("CUDA", {"device_id": "0"})],
        ),
        (
            {"providers": "openvino", "provider_options": '{"OpenVINO": {"device_type": "GPU"}}'},
            [("OpenVINO", {"device_type": "GPU"})],
        ),
        ({"device": "cuda", "provider_options": {"cuda": {"device_id": 1}}}, [("CUDA", {"device_id": "1"})]),
    ],
)
def test_providers_have_short_names_and_options(options: Any, expected: Any) -> None:
    assert read(**options) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"providers": "cudda"},
            "no execution provider 'cudda': ONNX Runtime knows tensorrt, cuda, openvino, xnnpack, cpu",
        ),
        ({"providers": "cuda:device"}, "'cuda:device' is not NAME:key=value;key=value"),
        ({"providers": [3]}, "option providers: 3 is neither a name nor a pair"),
        ({"device": "gpu"}, "option device is cpu, cuda, cuda:NUMBER or auto, not 'gpu'"),
        ({"device": "cuda:x"}, "option device is cpu, cuda, cuda:NUMBER or auto, not 'cuda:x'"),
        ({"device": "cpu:1"}, "option device is cpu, cuda, cuda:NUMBER or auto"),
        ({"device": "cpu", "providers": "cuda"}, "device is cpu, option providers is CUDA: they contradict each other"),
        ({"device": "cuda", "providers": "openvino,cpu"}, "device is cuda, option providers is OpenVINO, CPU"),
        ({"provider_options": "{"}, "option provider_options is JSON such as"),
        ({"provider_options": "[1]"}, "option provider_options is JSON such as"),
        ({"provider_options": {"cuda": 3}}, "option provider_options is JSON such as"),
        ({"provider_options": {"cuda": {}}}, "has CUDAExecutionProvider, which option providers does not name"),
    ],
)
def test_providers_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    with pytest.raises(ModelError) as caught:
        read(**options)
    assert message in str(caught.value)


def test_a_provider_that_the_build_lacks_names_the_line_that_brings_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_installed", lambda name: name == "onnxruntime")
    here = ["AzureExecutionProvider", "CPUExecutionProvider"]
    for name, line in (
        ("CUDA", "pip uninstall -y onnxruntime && pip install 'tensorwire[onnx-gpu]'"),
        ("Tensorrt", "pip install 'tensorwire[onnx-gpu]'"),
        ("OpenVINO", "pip uninstall -y onnxruntime && pip install onnxruntime-openvino"),
        ("XNNPACK", "no package on PyPI brings it"),
    ):
        with pytest.raises(ModelError) as caught:
            check_built([Provider(f"{name}ExecutionProvider")], here, "1.31.1")
        assert f"{name} is not in onnxruntime 1.31.1, which has Azure, CPU" in str(caught.value)
        assert line in str(caught.value)
    check_built([Provider("CPUExecutionProvider")], here, "1.31.1")


def test_all_builds_are_uninstalled_before_another_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(providers, "_installed", lambda name: name in ("onnxruntime", "onnxruntime-openvino"))
    with pytest.raises(ModelError, match="pip uninstall -y onnxruntime onnxruntime-openvino && pip install 'tensorw"):
        check_built([Provider("CUDAExecutionProvider")], ["OpenVINOExecutionProvider", "CPUExecutionProvider"], "1.24")


def test_builds_are_named_by_their_distributions(monkeypatch: pytest.MonkeyPatch) -> None:
    for installed, text in (
        ((), "onnxruntime"),
        (("onnxruntime-gpu",), "onnxruntime-gpu"),
        (("onnxruntime", "onnxruntime-gpu"), "onnxruntime and onnxruntime-gpu"),
    ):
        monkeypatch.setattr(providers, "_installed", lambda name, installed=installed: name in installed)
        assert providers.installed_build() == text


def test_devices_are_those_of_the_first_provider() -> None:
    assert device_of([Provider("CPUExecutionProvider"), Provider("CUDAExecutionProvider")]) == "cpu"
    assert device_of([Provider("CUDAExecutionProvider")]) == "cuda:0"
    assert device_of([Provider("TensorrtExecutionProvider", {"device_id": "2"})]) == "cuda:2"


def test_this_build_without_cuda_says_so(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    if "CUDAExecutionProvider" in engine.available_providers():
        pytest.skip("this ONNX Runtime has CUDA")
    path = relu(tmp_path)
    with pytest.raises(ModelError, match=r"CUDA is not in onnxruntime\S* \S+, which has .*CPU; run: pip uninstall"):
        load(path, device="cuda:0")
    with caplog.at_level(logging.WARNING, "tensorwire.model"):
        model = load(path, device="cuda:0", fallback=1)
    assert "CUDA is not in this ONNX Runtime" in caplog.text
    assert model.device == "cpu"
    assert model.run("", {"x": X}, ("y",))["y"].tolist() == [0, 0, 0, 0, 1, 2]


def test_a_provider_that_does_not_start_is_an_error_and_not_a_silent_cpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """ONNX Runtime goes on without a provider whose libraries or driver are missing, and only logs it."""
    import onnxruntime as ort

    def without_cuda(source: Any, options: Any, wanted: list[Provider]) -> Any:
        return ort.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])

    monkeypatch.setattr(ort, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    monkeypatch.setattr(loading, "open_session", without_cuda)
    path = relu(tmp_path)
    with pytest.raises(ModelError, match=r"CUDA is in .* and did not start on this machine: it needs an NVIDIA driver"):
        load(path, device="cuda:0")
    with caplog.at_level(logging.WARNING, "tensorwire.model"):
        assert load(path, device="cuda:0", fallback="yes").device == "cpu"
    assert "CUDA is in" in caplog.text


def test_session_options_reach_onnx_runtime(tmp_path: Path) -> None:
    path = relu(tmp_path)
    model: Any = load(
        path,
        graph_optimization_level="Basic",
        execution_mode="parallel",
        enable_cpu_mem_arena="0",
        enable_mem_pattern=False,
        log_severity_level=3,
        **{"session.set_denormal_as_zero": "1", "mlas.enable_gemm_fastmath_arm64_bfloat16": 0},
    )
    options = model._session.get_session_options()
    assert "ORT_ENABLE_BASIC" in str(options.graph_optimization_level)
    assert "ORT_PARALLEL" in str(options.execution_mode)
    assert not options.enable_cpu_mem_arena
    assert not options.enable_mem_pattern
    assert options.log_severity_level == 3
    assert options.get_session_config_entry("session.set_denormal_as_zero") == "1"
    assert options.get_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16") == "0"
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
    spinning: Any = load(path, allow_spinning=1)
    entry = spinning._session.get_session_options().get_session_config_entry("session.intra_op.allow_spinning")
    assert entry == "1"
    for wrong, message in (
        ({"graph_optimization_level": "max"}, "is one of disable, basic, extended, all, not 'max'"),
        ({"execution_mode": "fast"}, "is one of sequential, parallel, not 'fast'"),
        ({"profile": tmp_path / "no" / "p"}, "option profile: no such folder"),
        ({"custom_ops": tmp_path / "no.so"}, "option custom_ops: no such file"),
        ({"sesion_x": 1}, "the onnx engine has no option sesion_x"),
    ):
        with pytest.raises(ModelError, match=message):
            load(path, **{key: str(value) for key, value in wrong.items()})


def test_a_profile_is_written_when_the_model_is_closed(tmp_path: Path) -> None:
    model = load(relu(tmp_path), profile=str(tmp_path / "profile"))
    model.run("", {"x": X}, ("y",))
    model.close()
    (file,) = tmp_path.glob("profile*.json")
    assert any(entry.get("args", {}).get("op_name") == "Relu" for entry in json.loads(file.read_text()))


def test_a_library_of_operators_is_registered(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    source, library = tmp_path / "ops.c", tmp_path / "ops.so"
    source.write_text(
        "int registered = 0;\nvoid *RegisterCustomOps(void *options, const void *api)\n"
        "{ registered += options != 0 && api != 0; return 0; }\n"
    )
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    model = load(relu(tmp_path), custom_ops=str(library))  # unloads the library when it goes
    assert ctypes.c_int.in_dll(ctypes.CDLL(str(library)), "registered").value == 1
    assert model.run("", {"x": X}, ("y",))["y"].max() == 2
    source.write_text("int nothing = 0;\n")
    bare = tmp_path / "bare.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", str(bare), str(source)], check=True)
    for path in (bare, source):
        with pytest.raises(ModelError, match="not a library of custom operators for this ONNX Runtime: ") as caught:
            load(relu(tmp_path), custom_ops=[str(path)])
        assert str(caught.value).startswith(str(path))


def test_operators_of_the_extensions_come_from_their_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = helper.make_node("StringUpper", ["x"], ["y"], domain="ai.onnx.contrib")
    kind = ELEMENT.STRING
    path = save(tmp_path, [node], [tensor("x", kind)], [tensor("y", kind)], domains=[("ai.onnx.contrib", 1)])
    monkeypatch.setitem(sys.modules, "onnxruntime_extensions", None)
    with pytest.raises(ModelError, match=r"uses operators of ai\.onnx\.contrib; run: pip install onnxruntime-ext"):
        load(path)
    monkeypatch.undo()
    pytest.importorskip("onnxruntime_extensions", reason="brings these operators")
    found = load(path).run("", {"x": np.array([b"abc"], object)}, ("y",))["y"]
    assert found.tolist() == [b"ABC"]
