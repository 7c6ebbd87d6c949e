"""PyTorch: what the user may say of a model, its threads, its device and its compiler."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import torch
from torch_models import ConvNet, CountsThreads, Dict, Identity, Recurrent, Scaled, export, script

import tensorwire as tw
from tensorwire import TensorSpec
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.engines.pt.build import described
from tensorwire.servers.model import Model, ModelError, Signature


def load(path: Path, **options: Any) -> Model:
    return ENGINE.load(path, options=options)


def signature(model: Model) -> Signature:
    return model.signatures[model.default_signature]


@pytest.fixture
def scripted(tmp_path: Path) -> Path:
    return script(ConvNet(), tmp_path / "net.pt")


def test_options_declare_what_the_file_does_not(scripted: Path) -> None:
    model = load(scripted, inputs="picture:float32[?, 3, 8, 8]", outputs="scores:float32[?, 4]")
    assert signature(model).inputs == (TensorSpec("picture", np.float32, (-1, 3, 8, 8)),)
    assert list(model.run("", {"picture": np.zeros((1, 3, 8, 8), np.float32)}, ())) == ["scores"]
    message = r"shape \[1, 4, 8, 8\] float32 came, expected \[-1, 3, 8, 8\]"
    with (
        BackgroundServer(model) as server,
        tw.Client(server.url) as client,
        pytest.raises(tw.RemoteError, match=message),
    ):
        client.infer({"picture": np.zeros((1, 4, 8, 8), np.float32)})


def test_a_file_beside_the_model_declares_it(scripted: Path) -> None:
    side = scripted.with_name("net.signature.json")
    side.write_text(
        json.dumps(
            {
                "description": "what is in a picture",
                "inputs": [{"name": "image", "dtype": "float32", "shape": [-1, 3, "?", "?"], "description": "0 to 1"}],
                "outputs": ["scores:float32[?, 4]"],
            }
        )
    )
    model = load(scripted)
    assert model.description == "what is in a picture"
    assert signature(model).inputs == (TensorSpec("image", np.float32, (-1, 3, -1, -1), "0 to 1"),)
    assert signature(model).outputs == (TensorSpec("scores", np.float32, (-1, 4)),)
    assert signature(load(scripted, outputs="y")).outputs == (TensorSpec("y"),)  # an option counts for more
    other = scripted.with_name("other.toml")
    other.write_text('inputs = ["x"]\n[[outputs]]\nname = "z"\n')
    assert [spec.name for spec in signature(load(scripted, signature=str(other))).outputs] == ["z"]
    side.write_text("{")
    with pytest.raises(ModelError, match=r"net\.signature\.json: not JSON"):
        load(scripted)


def test_declared_outputs_go_by_name_or_by_place(tmp_path: Path) -> None:
    path = script(Dict(), tmp_path / "m.pt")
    x = {"a": np.ones(1, np.float32), "b": np.ones(1, np.float32)}
    assert list(load(path, outputs="product").run("", x, ("product",))) == ["product"]
    assert list(load(path, outputs="y,z").run("", x, ())) == ["y", "z"]
    with pytest.raises(LookupError, match=r"2 outputs \(sum, product\) came, y are declared"):
        load(path, outputs="y").run("", x, ())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inputs": "a,b"}, r"2 inputs are declared, the model takes 1 \(image\)"),
        ({"outputs": "a,b"}, r"2 outputs are declared, the model has 1 \(output\)"),
        ({"inputs": "image:flaot32"}, "unknown dtype 'flaot32'"),
        ({"module": "torch_models:ConvNet"}, r"holds its own code \(TorchScript\); leave out the options module"),
        ({"compile": 1}, "TorchScript has its own compiler; leave out the option compile"),
        ({"device": "tpu"}, "unknown device 'tpu': PyTorch models run on cpu, cuda, cuda:N or mps"),
        ({"device": "cuda:x"}, "unknown device 'cuda:x'"),
        ({"custom_ops": "/nonexistent.so"}, "option custom_ops: no such file: /nonexistent.so"),
        ({"signature": "/nonexistent.json"}, "/nonexistent.json: No such file"),
        ({"intra_op_num_threads": -1}, "option intra_op_num_threads is a number, 0 or more"),
        ({"speed": 3}, "the torch engine has no option speed"),
    ],
)
def test_options_that_do_not_fit(scripted: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load(scripted, **options)


def test_a_library_that_holds_no_operators(scripted: Path, tmp_path: Path) -> None:
    library = tmp_path / "ops.so"
    library.write_bytes(b"no library")
    with pytest.raises(ModelError, match=r"ops\.so: not a library of operators for PyTorch"):
        load(scripted, custom_ops=str(library))


def test_a_class_with_arguments(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(ConvNet(classes=7).state_dict(), path)
    for args in ("[7]", '{"classes": 7}'):
        model = load(path, module="torch_models:ConvNet", module_args=args, outputs="scores:float32[?, 7]")
        assert model.run("", {"image": np.zeros((2, 3, 4, 4), np.float32)}, ())["scores"].shape == (2, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {},
            r"holds weights only \(9 tensors such as 'conv.weight' \[8, 3, 3, 3\]\): say of which class with --option",
        ),
        ({"module": "torch_models"}, "option module is package.module:Class, not 'torch_models'"),
        ({"module": "torch_models:ConvNed"}, "torch_models has no 'ConvNed'; did you mean ConvNet"),
        ({"module": "no_such_models:Net"}, "no module 'no_such_models'"),
        (
            {"module": "torch_models:ConvNet", "module_args": "[9]"},
            r"head.weight is \[4, 8\] in the file, \[9, 8\] in the",
        ),
        ({"module": "torch_models:ConvNet", "module_args": "{"}, "option module_args is no JSON"),
        ({"module": "torch_models:ConvNet", "module_args": "3"}, "option module_args is a JSON list or object, not 3"),
        ({"module": "torch_models:ConvNet", "module_args": "[1, 2, 3]"}, "ConvNet raised TypeError: "),
        (
            {"module": "torch_models:Recurrent"},
            "not the weights of Recurrent: the file has no lstm.weight_ih_l0, .* more for",
        ),
        (
            {"module": "torch_models:Identity"},
            "the file has conv.weight, conv.bias, norm.weight and 6 more, which it lacks",
        ),
        ({"module": "torch_models:script"}, "script raised TypeError"),
        ({"module": "json:loads", "module_args": '["1"]'}, "the option module made a int, not a torch.nn.Module"),
    ],
)
def test_weights_that_do_not_fit(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    path = tmp_path / "w.pt"
    torch.save(ConvNet().state_dict(), path)
    with pytest.raises(ModelError, match=message) as caught:
        load(path, **options)
    assert "\n" not in str(caught.value)


def test_arguments_of_a_class_may_be_left_out_or_named(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Scaled(), path)
    model = load(path, allow_pickle=True)
    assert [spec.name for spec in signature(model).inputs] == ["x", "by"]
    model = load(path, allow_pickle=True, inputs="x,by,bias")
    x = np.float32([1, 2])
    assert model.run("", {"x": x, "by": np.float32(2)[...], "bias": x}, ())["output"].tolist() == [3, 6]
    with pytest.raises(ModelError, match="input 'by' of the model is not declared: it takes x, by, times, bias"):
        load(path, allow_pickle=True, inputs="x")


@pytest.fixture
def threads() -> Iterator[int]:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


def test_threads_are_set_for_the_process_and_held_while_the_model_is_open(scripted: Path, threads: int) -> None:
    first = load(scripted, intra_op_num_threads=3)
    assert torch.get_num_threads() == 3
    assert first.engine.endswith("3 threads)")
    with pytest.raises(
        ModelError, match="intra_op_num_threads 1: all PyTorch models of a process share their threads, and"
    ):
        load(scripted, intra_op_num_threads=1)
    second = load(scripted, intra_op_num_threads="3")
    load(scripted).close()
    first.close()
    with pytest.raises(ModelError, match="another model has asked for 3"):
        load(scripted, intra_op_num_threads=1)
    second.close()
    last = load(scripted, intra_op_num_threads=1)
    assert torch.get_num_threads() == 1
    assert last.engine.endswith("1 thread)")
    last.close()


def test_the_threads_are_those_of_the_servers_threads(tmp_path: Path, threads: int) -> None:
    path = tmp_path / "m.pt"
    torch.save(CountsThreads(), path)
    model = load(path, allow_pickle=True, intra_op_num_threads=threads + 2)
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        assert client.infer({"x": np.zeros(1)})["output"] == threads + 2


def test_without_pytorch_it_says_what_to_install(scripted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(ModelError, match=r"net.pt: PyTorch is not installed; run: pip install 'tensorwire\[torch\]'"):
        load(scripted)


def test_a_model_that_does_not_load_holds_no_threads(tmp_path: Path, scripted: Path, threads: int) -> None:
    (tmp_path / "bad.pt").write_bytes(b"PK\x03\x04")
    with pytest.raises(ModelError, match="cut short"):
        load(tmp_path / "bad.pt", intra_op_num_threads=5)
    load(scripted, intra_op_num_threads=threads).close()


IN_A_PROCESS = """
import sys, warnings
from pathlib import Path
import numpy as np
from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.model import ModelError
assert "torch" not in sys.modules
warnings.simplefilter("error")
model = ENGINE.load(Path(sys.argv[1]), options={"inter_op_num_threads": 3})
import torch
assert torch.get_num_interop_threads() == 3
model.close()
try:
    ENGINE.load(Path(sys.argv[1]), options={"inter_op_num_threads": 2})
except ModelError as error:
    print(error)
"""


def test_threads_between_operators_and_a_quiet_import(scripted: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", IN_A_PROCESS, str(scripted)], capture_output=True, text=True, check=True
    )
    assert done.stdout == (
        "inter_op_num_threads 2: PyTorch works with 3 already; it is for the first model of a process to set\n"
    )
    assert done.stderr == ""


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:7"])
def test_a_gpu_that_is_missing(scripted: Path, device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if torch.version.cuda is None:
        with pytest.raises(
            ModelError, match=f"device {device}: PyTorch .* is built without CUDA; get a build from https"
        ):
            load(scripted, device=device)
        monkeypatch.setattr(torch.version, "cuda", "13.0")
    with pytest.raises(ModelError, match=f"device {device}: PyTorch .* finds no GPU; the NVIDIA driver is"):
        load(scripted, device=device)


def test_a_gpu_with_a_number_that_is_not_there(scripted: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ModelError, match="device cuda:2: there are 2: cuda:0 to cuda:1"):
        load(scripted, device="cuda:2")


def test_the_build_is_told() -> None:
    text = described(torch.device("cpu"))
    assert text.startswith(f"PyTorch {torch.__version__.partition('+')[0]} (CPU")
    assert ("oneDNN" in text) is torch.backends.mkldnn.is_available()
    assert ("MKL" in text) is torch.backends.mkl.is_available()


def test_compile_runs_the_module_through_a_backend(tmp_path: Path) -> None:
    module = ConvNet().eval()
    path = tmp_path / "w.pt"
    torch.save(module.state_dict(), path)
    options = {"module": "torch_models:ConvNet", "inputs": "image:float32[?, 3, 8, 8]", "compile": "aot_eager"}
    model = load(path, **options)
    assert model.facts["compiled by"] == "aot_eager"
    x = np.random.default_rng(0).normal(size=(2, 3, 8, 8)).astype(np.float32)
    with torch.inference_mode():
        expected = module(torch.tensor(x)).numpy()
    np.testing.assert_allclose(model.run("", {"image": x}, ())["output"], expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(
        ModelError, match=r"option compile is 1 or a backend of torch.compile \(.*inductor.*\), not 'gcc'"
    ):
        load(path, **{**options, "compile": "gcc"})


def test_a_compiled_module_that_cannot_run_is_told_at_load(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(ConvNet().state_dict(), path)
    with pytest.raises(ModelError, match=r"w\.pt: its first call raised \w+: .*conv2d") as caught:
        load(path, module="torch_models:ConvNet", inputs="image:float32[?, 5, 8, 8]", compile="eager")
    assert "\n" not in str(caught.value)


def test_an_exported_program_keeps_arguments_that_are_no_tensors(tmp_path: Path) -> None:
    path = export(Scaled(), tmp_path / "m.pt2", torch.ones(2), 2.0, 3)
    model = load(path)
    assert [spec.name for spec in signature(model).inputs] == ["x"]
    assert model.run("", {"x": np.float32([1, 2])}, ())["output"].tolist() == [6, 12]


def test_an_argument_that_no_tensor_can_be(tmp_path: Path) -> None:
    class Listed(torch.nn.Module):
        def forward(self, x: list[torch.Tensor]) -> torch.Tensor:
            return x[0]

    path = script(Listed(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"m.pt: argument 'x' is a List\[Tensor\], which cannot be sent as a tensor"):
        load(path)


def test_inspect_shows_what_a_file_holds(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from tensorwire.servers.cli import app

    path = export(Recurrent(), tmp_path / "m.pt2", torch.zeros(2, 4, 3), (torch.zeros(1, 2, 5), torch.zeros(1, 2, 5)))
    shown = CliRunner().invoke(app, ["inspect", str(path)])
    assert shown.exit_code == 0, shown.output
    for text in (
        "format: torch.export",
        f"producer: PyTorch {torch.__version__}",
        "parameters: 200",
        "[2, 4, 3]",
        "state_1",
    ):
        assert text in shown.output
    torch.save(Identity(), tmp_path / "whole.pt")
    refused = CliRunner().invoke(app, ["inspect", str(tmp_path / "whole.pt")])
    assert refused.exit_code != 0
