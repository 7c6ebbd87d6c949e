"""PyTorch on a GPU: where tensors are, that copies are the device's own, and answers as on the CPU."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import ml_dtypes
import torch
from torch_models import ConvNet, Counter, Dict, Identity, Raises, Transposes, export, script, trace

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.engines.pt.tensors import DeviceTensors
from tensorwire.servers.model import Model
from tensorwire.servers.pagelock import PageLock

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device and a PyTorch built for it"),
]

DEVICE = "cuda:0"
IMAGES = np.random.default_rng(1).normal(size=(2, 3, 8, 8)).astype(np.float32)


@pytest.fixture
def locked() -> Iterator[None]:
    tw.pool_trim()
    lock = PageLock(DEVICE)
    assert lock._holds
    yield
    lock.release()


def load(path: Path, **options: Any) -> Model:
    return ENGINE.load(path, options={"device": DEVICE, **options})


def received(x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """The array as a server has it: in a Chunk."""
    frame = tw.encode(tw.Request({"x": x}))
    chunk = tw.Chunk(frame.nbytes)
    frame.write_into(chunk)
    return next(iter(tw.decode(chunk, tw.Request).inputs.values()))


@pytest.mark.parametrize("how", ["script", "trace", "export", "weights"])
def test_every_format_answers_as_on_the_cpu(tmp_path: Path, how: str) -> None:
    module = ConvNet().eval()
    path = tmp_path / "m.pt"
    options: dict[str, Any] = {}
    if how == "script":
        script(module, path)
    elif how == "trace":
        trace(module, path, torch.zeros(1, 3, 8, 8))
    elif how == "export":
        export(module, path, torch.zeros(2, 3, 8, 8))
    else:
        torch.save(module.state_dict(), path)
        options = {"module": "torch_models:ConvNet"}
    model = load(path, **options)
    assert model.device == DEVICE
    assert torch.cuda.get_device_name(0) in model.engine and "CUDA" in model.engine
    with torch.inference_mode():
        expected = module(torch.tensor(IMAGES)).numpy()
    found = model.run("", {"image": IMAGES}, ())["output"]
    np.testing.assert_allclose(found, expected, rtol=1e-2, atol=1e-3)  # TF32 convolutions
    assert torch.from_numpy(found).is_pinned()


@pytest.mark.parametrize("dtype", ["float32", "float16", "int64", "bool", ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), (), (1024, 1024)])
def test_dtypes_and_shapes(tmp_path: Path, dtype: Any, shape: tuple[int, ...]) -> None:
    model = load(script(Identity(), tmp_path / "m.pt"))
    x = np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)
    y = model.run("", {"x": x}, ())["output"]
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert y.tobytes() == x.tobytes()
    assert not np.shares_memory(x, y)


@pytest.mark.usefixtures("locked")
def test_a_chunk_is_page_locked_in_cudas_eyes() -> None:
    large, small = received(np.zeros(1 << 20, np.float32)), received(np.zeros(16, np.float32))
    assert torch.from_numpy(large).is_pinned()
    assert not torch.from_numpy(small).is_pinned()
    assert tw.pool_stats()["locked_bytes"] >= large.nbytes


@pytest.mark.usefixtures("locked")
def test_copies_from_a_chunk_are_under_way_while_the_host_goes_on() -> None:
    """The stream is kept busy, so a copy that waited for it would not be back before it is done."""
    tensors = DeviceTensors(torch.device(DEVICE))
    x = received(np.arange(1 << 22, dtype=np.float32))
    with tensors.stream():
        torch.cuda._sleep(1 << 30)
        given = tensors.lent("x", x)
        y = tensors.array("y", given * 2)
        assert not torch.cuda.current_stream(DEVICE).query()
        tensors.finish()
    np.testing.assert_array_equal(y, x * 2)


def test_pages_are_locked_while_the_model_is_served(tmp_path: Path) -> None:
    model = load(script(Identity(), tmp_path / "m.pt"))
    x = np.arange(1 << 21, dtype=np.float32)
    tw.pool_trim()
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        np.testing.assert_array_equal(client.infer({"x": x})["output"], x)
        assert tw.pool_stats()["locked_bytes"] >= x.nbytes
    tw.pool_trim()
    assert tw.pool_stats()["locked_bytes"] == 0
    assert tw.pool_stats()["lock_failures"] == 0


def test_results_stay_valid_and_are_not_the_models_own(tmp_path: Path) -> None:
    model = load(script(Counter(), tmp_path / "m.pt"))
    found = [model.run("", {"x": np.ones(3, np.float32)}, ())["output"] for _ in range(3)]
    model.close()
    assert [y[0] for y in found] == [1, 2, 3]


def test_tuples_strides_and_errors(tmp_path: Path) -> None:
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    found = load(script(Dict(), tmp_path / "d.pt")).run("", {"a": x, "b": x}, ("product",))
    np.testing.assert_array_equal(found["product"], x * x)
    found = load(script(Transposes(), tmp_path / "t.pt")).run("", {"x": x[::-1]}, ())
    np.testing.assert_array_equal(found["output"], x[::-1].T)
    model = load(script(Raises(), tmp_path / "r.pt"))
    for _ in range(3):
        with pytest.raises(RuntimeError, match="negative sum"):
            model.run("", {"x": -x}, ())
    np.testing.assert_array_equal(model.run("", {"x": x}, ())["output"], x)


def test_concurrent_calls(tmp_path: Path) -> None:
    model = load(script(Dict(), tmp_path / "m.pt"), concurrency=4)
    wrong: list[int] = []

    def work(number: int) -> None:
        for i in range(50):
            a = np.full((256, 256), number * 100 + i, np.float32)
            found = model.run("", {"a": a, "b": a}, ())
            if not (found["sum"] == 2 * a).all() or not (found["product"] == a * a).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
