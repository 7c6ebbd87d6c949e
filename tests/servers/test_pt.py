"""PyTorch models of every format: what they declare, and answers equal to the module's own."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import ml_dtypes
import torch
from torch_models import (
    Allocates,
    Anything,
    ConvNet,
    Dict,
    Identity,
    Largest,
    Named,
    Raises,
    Recurrent,
    Scaled,
    export,
    script,
    trace,
)

import tensorwire as tw
from tensorwire import TensorSpec
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import Model, RequestError, Signature

IMAGES = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)
BATCH = torch.export.Dim("batch", min=0, max=64)


def load(path: Path, **options: Any) -> Model:
    return ENGINE.load(path, options=options)


def signature(model: Model) -> Signature:
    return model.signatures[model.default_signature]


def direct(module: torch.nn.Module, *arrays: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    with torch.inference_mode():
        return module.eval()(*[torch.tensor(array) for array in arrays]).numpy()


def conv_files(folder: Path, module: torch.nn.Module) -> dict[str, tuple[Path, dict[str, Any]]]:
    weights, safe = folder / "weights.pth", folder / "weights.safetensors"
    torch.save(module.state_dict(), weights)
    old = folder / "old.bin"
    torch.save({"epoch": 3, "state_dict": module.state_dict()}, old, _use_new_zipfile_serialization=False)
    parallel = folder / "parallel.pt"
    torch.save({f"module.{name}": value for name, value in module.state_dict().items()}, parallel)
    given = {"module": "torch_models:ConvNet"}
    found = {
        "script": (script(module, folder / "script.pt"), {}),
        "trace": (trace(module, folder / "trace.pt", torch.zeros(1, 3, 8, 8)), {}),
        "export": (export(module, folder / "exported.pt", torch.zeros(2, 3, 8, 8), dynamic_shapes=[{0: BATCH}]), {}),
        "state dict": (weights, given),
        "checkpoint": (old, given),
        "data parallel": (parallel, given),
    }
    try:
        from safetensors.torch import save_file
    except ImportError:
        return found
    save_file(module.state_dict(), safe)
    return {**found, "safetensors": (safe, given)}


def test_all_formats_answer_as_the_module_does(tmp_path: Path) -> None:
    module = ConvNet().eval()
    module(torch.zeros(1, 3, 8, 8))
    expected = direct(module, IMAGES)
    for kind, (path, options) in conv_files(tmp_path, module).items():
        model = load_model(path, options=options)
        found = model.run("", {"image": IMAGES}, ())
        assert list(found) == ["output"], kind
        np.testing.assert_allclose(found["output"], expected, rtol=1e-5, atol=1e-6, err_msg=kind)
        assert model.facts["parameters"] == "276", kind
        assert model.engine.startswith(f"PyTorch {torch.__version__.partition('+')[0]} (CPU"), kind
        assert model.engine.endswith("threads)") or model.engine.endswith("1 thread)")
        model.close()
        with pytest.raises(RequestError, match="is closed"):
            model.run("", {"image": IMAGES}, ())


def test_what_the_formats_declare(tmp_path: Path) -> None:
    files = {kind: load(path, **options) for kind, (path, options) in conv_files(tmp_path, ConvNet()).items()}
    assert signature(files["script"]) == Signature("serving_default", (TensorSpec("image"),), (TensorSpec("output"),))
    # A traced module keeps the inputs that it was traced with; their sizes may have been any.
    assert signature(files["trace"]).inputs == (TensorSpec("image", np.float32, [-1] * 4),)
    assert signature(files["export"]) == Signature(
        "serving_default",
        (TensorSpec("image", np.float32, (-1, 3, 8, 8)),),
        (TensorSpec("output", np.float32, (-1, 4)),),
    )
    assert signature(files["state dict"]) == Signature("serving_default", (TensorSpec("image"),), (), open=True)
    assert {kind: model.facts["format"] for kind, model in files.items()} == {
        "script": "TorchScript",
        "trace": "TorchScript",
        "export": "torch.export",
        "state dict": "state dict (torch.save)",
        "checkpoint": "state dict (torch.save)",
        "data parallel": "state dict (torch.save)",
        **({"safetensors": "state dict (safetensors)"} if "safetensors" in files else {}),
    }
    assert files["export"].facts["producer"] == f"PyTorch {torch.__version__}"
    assert files["export"].facts["weights"] == f"{276 * 4 + 2 * 8 * 4 + 8:,} bytes"


@pytest.mark.parametrize("rows", [0, 1, 5])
def test_a_dynamic_batch(tmp_path: Path, rows: int) -> None:
    module = ConvNet()
    model = load(export(module, tmp_path / "m.pt2", torch.zeros(2, 3, 8, 8), dynamic_shapes=[{0: BATCH}]))
    x = np.ones((rows, 3, 8, 8), np.float32)
    np.testing.assert_allclose(model.run("", {"image": x}, ())["output"], direct(module, x), rtol=1e-5)


def test_a_size_that_the_guards_refuse_is_a_bad_request(tmp_path: Path) -> None:
    model = load(export(ConvNet(), tmp_path / "m.pt2", torch.zeros(2, 3, 8, 8), dynamic_shapes=[{0: BATCH}]))
    with pytest.raises(RequestError, match=r"the model takes only inputs with image.size\(\)\[0\] <= 64") as caught:
        model.run("", {"image": np.zeros((65, 3, 8, 8), np.float32)}, ())
    assert caught.value.code == 400


@pytest.mark.parametrize("how", ["script", "export"])
def test_tuples_of_tuples_both_ways(tmp_path: Path, how: str) -> None:
    module = Recurrent().eval()
    x = torch.randn(2, 4, 3)
    state = torch.randn(1, 2, 5), torch.randn(1, 2, 5)
    path = tmp_path / "m.pt"
    model = load(script(module, path) if how == "script" else export(module, path, x, state))
    assert [spec.name for spec in signature(model).inputs] == ["x", "state_0", "state_1"]
    assert [spec.name for spec in signature(model).outputs] == ["output_0", "output_1_0", "output_1_1"]
    found = model.run("", {"x": x.numpy(), "state_0": state[0].numpy(), "state_1": state[1].numpy()}, ())
    with torch.inference_mode():
        y, (h, c) = module(x, state)
    for name, expected in {"output_0": y, "output_1_0": h, "output_1_1": c}.items():
        np.testing.assert_allclose(found[name], expected.numpy(), rtol=1e-5)
    assert list(model.run("", {"x": x.numpy(), "state_0": h.numpy(), "state_1": c.numpy()}, ("output_1_1",))) == [
        "output_1_1"
    ]


@pytest.mark.parametrize("how", ["script", "export"])
def test_a_dict_of_outputs(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.pt"
    a, b = np.float32([1, 2]), np.float32([3, 4])
    model = load(script(Dict(), path) if how == "script" else export(Dict(), path, torch.zeros(2), torch.zeros(2)))
    known = () if how == "script" else (TensorSpec("sum", np.float32, (2,)), TensorSpec("product", np.float32, (2,)))
    assert signature(model).outputs == known
    assert signature(model).any_outputs is (how == "script")
    found = model.run("", {"a": a, "b": b}, ())
    assert {name: y.tolist() for name, y in found.items()} == {"sum": [4, 6], "product": [3, 8]}


def test_named_tuples_have_their_fields(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    found = load(script(Named(), path)).run("", {"x": np.float32([1, 2])}, ())
    assert {name: y.tolist() for name, y in found.items()} == {"low": [0, 1], "high": [2, 3]}


def test_numbers_and_optional_arguments(tmp_path: Path) -> None:
    path = script(Scaled(), tmp_path / "m.pt")
    model = load(path)
    assert signature(model).inputs == (TensorSpec("x"), TensorSpec("by", np.float64))
    x = np.float32([1, 2])
    assert model.run("", {"x": x, "by": np.float64(3)[...]}, ())["output"].tolist() == [3, 6]
    with pytest.raises(RequestError, match=r"input 'by' is one number, shape \[2\] came"):
        model.run("", {"x": x, "by": np.float64([1, 2])}, ())
    model = load(path, inputs="x,by,bias:float32[2],times:int64")
    found = model.run("", {"x": x, "by": np.float64([3]), "bias": x, "times": np.int64([2])}, ())
    assert found["output"].tolist() == [7, 14]


def test_a_module_that_takes_anything(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Anything(), path)
    model = load(path, allow_pickle=True)
    assert signature(model).any_inputs and signature(model).any_outputs
    assert model.run("", {"1": np.arange(3), "0": np.arange(3)}, ())["output"].tolist() == [0, 2, 4]
    assert model.facts["format"] == "module Anything (pickle)"


def test_bfloat16_over_the_wire(tmp_path: Path) -> None:
    class Doubles(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * 2

    path = export(Doubles(), tmp_path / "m.pt2", torch.zeros(3, dtype=torch.bfloat16))
    x = np.array([1, 2, 3.5], ml_dtypes.bfloat16)
    with BackgroundServer(load(path)) as server, tw.Client(server.url) as client:
        assert client.metadata().inputs[0] == TensorSpec("x", ml_dtypes.bfloat16, (3,))
        y = client.infer({"x": x})["output"]
    assert y.dtype == ml_dtypes.bfloat16 and y.tolist() == [2, 4, 7]


def test_errors_over_the_wire(tmp_path: Path) -> None:
    """The server goes on after a model that raises, an input of another type, one too many, text, and no rows."""
    path = script(Raises(), tmp_path / "m.pt")
    x = np.float32([1, 2])
    with BackgroundServer(load(path)) as server, tw.Client(server.url) as client:
        with pytest.raises(tw.RemoteError, match=r"model 'm' failed: RuntimeError: .*negative sum \(request") as caught:
            client.infer({"x": -x})
        assert caught.value.code == 500 and "Traceback" not in str(caught.value)
        with pytest.raises(tw.RemoteError, match="input 'x': PyTorch has no tensors of text") as caught:
            client.infer({"x": np.array([b"a"], object)})
        assert caught.value.code == 400
        with pytest.raises(tw.RemoteError, match="unknown input 'y'"):
            client.infer({"x": x, "y": x})
        assert client.infer({"x": x[:0]})["output"].shape == (0,)
        assert np.isnan(client.infer({"x": np.float32([np.nan])})["output"]).all()


@pytest.mark.parametrize("how", ["script", "class"])
def test_a_failure_at_no_rows_says_that_there_are_none(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.pt"
    if how == "script":
        script(Largest(), path)
    else:
        torch.save(Largest(), path)
    model = ENGINE.load(path, options={"allow_pickle": True})
    assert model.run("", {"x": np.ones((2, 3), np.float32)}, ())["output"] == 1
    with pytest.raises(Exception, match=r"max\(\).* \(the request has 0 rows\)"):
        model.run("", {"x": np.ones((0, 3), np.float32)}, ())


def test_results_that_are_not_as_declared_and_memory_that_is_not_there(tmp_path: Path) -> None:
    path = script(Allocates(), tmp_path / "m.pt")
    with BackgroundServer(load(path, outputs="y:float64[3]")) as server, tw.Client(server.url) as client:
        assert client.infer({"x": np.float32([3])})["y"].shape == (3,)
        with pytest.raises(tw.RemoteError, match=r"output 'y'.*\[4\] float64.*\[3\] float64") as caught:
            client.infer({"x": np.float32([4])})
        assert caught.value.code == 500
        with pytest.raises(tw.RemoteError, match=r"RuntimeError: .*can't allocate memory") as caught:
            client.infer({"x": np.float32([1 << 24] * 2)})
        assert caught.value.code == 500
        assert client.infer({"x": np.float32([3])})["y"].shape == (3,)


def test_concurrent_calls(tmp_path: Path) -> None:
    module = ConvNet().eval()
    inputs = [np.random.default_rng(i).normal(size=(1 + i % 3, 3, 8, 8)).astype(np.float32) for i in range(40)]
    expected = [direct(module, x) for x in inputs]
    wrong: list[int] = []
    for path in (
        script(module, tmp_path / "s.pt"),
        export(module, tmp_path / "e.pt2", torch.zeros(2, 3, 8, 8), dynamic_shapes=[{0: BATCH}]),
    ):
        model = load(path, concurrency=4)
        assert model.concurrency == 4

        def work(start: int, model: Model = model) -> None:
            for i in range(start, len(inputs), 4):
                found = model.run("", {"image": inputs[i]}, ())["output"]
                if not np.allclose(found, expected[i], rtol=1e-5, atol=1e-6):
                    wrong.append(i)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_close_during_a_call_and_twice(tmp_path: Path) -> None:
    model = load(script(Identity(), tmp_path / "m.pt"))
    y = model.run("", {"x": IMAGES}, ())["output"]
    model.close()
    model.close()
    np.testing.assert_array_equal(y, IMAGES)
