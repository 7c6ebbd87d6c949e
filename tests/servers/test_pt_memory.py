"""PyTorch: every dtype, and which memory is shared, proven by address."""

from __future__ import annotations

import gc
import warnings
import weakref
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import ml_dtypes
import torch
from torch_models import Counter, Identity, Transposes, Writes, export, script

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.engines.pt.tensors import CpuTensors
from tensorwire.servers.model import Array, Model, RequestError

NUMPY = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
)
ML = (ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2)
TENSORS = CpuTensors()


def address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


def filled(dtype: Any, shape: tuple[int, ...]) -> Array:
    return np.arange(int(np.prod(shape))).astype(dtype).reshape(shape)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return ENGINE.load(script(Identity(), tmp_path_factory.mktemp("pt") / "m.pt"), options={})


@pytest.mark.parametrize("writable", [True, False])
@pytest.mark.parametrize("shape", [(2, 3), (0, 3), ()])
@pytest.mark.parametrize("dtype", [*NUMPY, *ML], ids=str)
def test_every_dtype_both_ways_over_the_same_memory(
    identity: Model, dtype: Any, shape: tuple[int, ...], writable: bool
) -> None:
    x = filled(dtype, shape)
    x.flags.writeable = writable
    tensor = TENSORS.lent("x", x)
    assert TENSORS.dtype(tensor.dtype) == x.dtype
    assert x.size == 0 or tensor.data_ptr() == address(x)
    y = identity.run("", {"x": x}, ())["output"]
    assert (y.dtype, y.shape) == (x.dtype, x.shape)
    assert y.tobytes() == x.tobytes()
    assert np.shares_memory(x, y) or x.size == 0


@pytest.mark.parametrize(
    ("x", "shared"),
    [
        (filled("f4", (4, 6))[::2, 1:], True),
        (filled("f4", (4, 6)).T, True),
        (np.broadcast_to(np.float32([1, 2]), (3, 2)), True),
        (filled("f4", (4, 6))[::-1], False),
        (filled("u1", (25,))[1:].view("f4"), False),
        (filled(">f4", (2, 3)), False),
        (filled([("a", "u1"), ("b", "f4")], (3,))["b"], False),
    ],
    ids=["strided", "transposed", "broadcast", "negative", "misaligned", "byte-swapped", "packed"],
)
def test_memory_that_tensors_can_have_is_shared_and_other_is_copied_once(
    identity: Model, x: Array, shared: bool
) -> None:
    tensor = TENSORS.lent("x", x)
    assert (tensor.data_ptr() == address(x)) is shared
    np.testing.assert_array_equal(tensor.numpy(), x)
    np.testing.assert_array_equal(identity.run("", {"x": x}, ())["output"], x)


def test_nothing_warns_of_memory_that_is_read_only(identity: Model) -> None:
    x = np.frombuffer(b"12345678", np.float32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        y = identity.run("", {"x": x}, ())["output"]
    assert np.shares_memory(x, y)


def test_text_is_refused(identity: Model) -> None:
    for x in (np.array([b"a"], object), np.array(["a"])):
        with pytest.raises(RequestError, match="input 'x': PyTorch has no tensors of text") as caught:
            identity.run("", {"x": x}, ())
        assert caught.value.code == 400


class Owner(np.ndarray[Any, Any]):
    """An array that can be watched."""


def test_an_output_that_is_an_input_keeps_it_alive(identity: Model) -> None:
    x = np.arange(8, dtype=np.float32).view(Owner)
    gone = weakref.ref(x)
    y = identity.run("", {"x": x}, ())["output"]
    del x
    gc.collect()
    assert gone() is not None and y.tolist() == list(range(8))
    del y
    gc.collect()
    assert gone() is None


def test_an_output_outlives_its_model_and_its_request(tmp_path: Path) -> None:
    """From a Chunk of the receiver's, through the model, back to the caller: one block of memory."""
    model = ENGINE.load(script(Identity(), tmp_path / "m.pt"), options={})
    frame = tw.encode(tw.Request({"x": np.arange(1000, dtype=np.float32)}))
    before = tw.pool_stats()["live_chunks"]
    chunk = tw.Chunk(frame.nbytes)
    frame.write_into(chunk)
    start = chunk.address
    request = tw.decode(chunk, tw.Request)
    y = model.run("", dict(request.inputs.items()), ())["output"]
    model.close()
    del model, request, chunk
    gc.collect()
    assert start <= address(y) < start + frame.nbytes
    assert y[-1] == 999
    assert tw.pool_stats()["live_chunks"] == before + 1
    del y
    gc.collect()
    assert tw.pool_stats()["live_chunks"] == before


class Makes(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + 1


@pytest.mark.parametrize("dtype", [np.float32, ml_dtypes.bfloat16, ml_dtypes.float8_e5m2])
def test_an_output_is_the_tensors_own_memory(dtype: Any) -> None:
    tensor = torch.zeros(5, dtype=TENSORS.lent("x", np.zeros(1, dtype)).dtype)
    y = TENSORS.array("y", tensor)
    assert address(y) == tensor.data_ptr()
    assert y.dtype == dtype and y.flags.writeable


def test_an_output_that_is_not_contiguous_is_copied_once(tmp_path: Path) -> None:
    model = ENGINE.load(script(Transposes(), tmp_path / "m.pt"), options={})
    x = filled("f4", (300, 400))
    y = model.run("", {"x": x}, ())["output"]
    np.testing.assert_array_equal(y, x.T)
    assert y.flags.c_contiguous and not np.shares_memory(x, y)
    frame = tw.encode(tw.Response({"y": y}))
    assert any(np.shares_memory(np.frombuffer(part, np.uint8), y) for part in frame.buffers if len(part))


def test_lazy_conjugates_and_what_needs_gradients(identity: Model) -> None:
    tensor = torch.tensor([1 + 2j]).conj()
    assert TENSORS.array("y", tensor).tolist() == [1 - 2j]
    assert TENSORS.array("y", torch.ones(2, requires_grad=True) * 2).tolist() == [2, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: torch.eye(2).to_sparse(), "output 'y' is a sparse tensor; let the model return to_dense"),
        (
            lambda: torch.quantize_per_tensor(torch.ones(2), 0.1, 0, torch.quint8),
            "output 'y' is a quantized tensor; let the model return dequantize",
        ),
        (lambda: torch.ones(2, dtype=torch.complex32), "output 'y' is of torch.complex32, which arrays do not have"),
        (lambda: "text", "output 'y' is a str, neither a tensor nor a number"),
    ],
    ids=["sparse", "quantized", "complex32", "text"],
)
def test_what_has_no_array_is_said(make: Any, message: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch's own, of types on their way in or out
        value = make()
    with pytest.raises(TypeError, match=message):
        TENSORS.array("y", value)


@pytest.mark.parametrize("value", [3, 2.5, True, 1j])
def test_numbers_are_arrays_without_dimensions(value: Any) -> None:
    y = TENSORS.array("y", value)
    assert y.shape == () and y == value


@pytest.mark.parametrize("how", ["script", "export"])
def test_a_module_that_writes_to_its_input_gets_a_copy(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.pt"
    zeros = torch.zeros(3), torch.zeros(3)
    model = ENGINE.load(script(Writes(), path) if how == "script" else export(Writes(), path, *zeros), options={})
    x, y = np.float32([1, 2, 3]), np.float32([10, 20, 30])
    x.flags.writeable = False
    for _ in range(3):
        assert model.run("", {"x": x, "y": y}, ())["output"].tolist() == [12, 23, 34]
    assert x.tolist() == [1, 2, 3]


def test_a_class_that_writes_to_its_input_gets_a_copy_once_it_has_been_seen(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Writes(), path)
    model = ENGINE.load(path, options={"allow_pickle": True})
    x, y = np.float32([1, 2, 3]), np.float32([10, 20, 30])
    for array in (x, y):
        array.flags.writeable = False
    for _ in range(3):
        found = model.run("", {"x": x, "y": y}, ())["output"]
        assert found.tolist() == [12, 23, 34]
        assert not np.shares_memory(found, x)
    assert x.tolist() == [1, 2, 3]


def test_a_class_that_does_not_write_is_lent_read_only_memory_from_the_second_call_on(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Identity(), path)
    model = ENGINE.load(path, options={"allow_pickle": True})
    x = np.float32([1, 2, 3])
    assert np.shares_memory(model.run("", {"x": x}, ())["output"], x)
    x.flags.writeable = False
    assert np.shares_memory(model.run("", {"x": x}, ())["output"], x)


@pytest.mark.parametrize("how", ["script", "class"])
def test_the_models_own_memory_is_not_handed_out(tmp_path: Path, how: str) -> None:
    path = tmp_path / "m.pt"
    if how == "script":
        script(Counter(), path)
    else:
        torch.save(Counter(), path)
    model = ENGINE.load(path, options={"allow_pickle": True})
    x = np.ones(3, np.float32)
    found = [model.run("", {"x": x}, ())["output"] for _ in range(3)]
    assert [y[0] for y in found] == [1, 2, 3]


def test_nothing_is_copied_between_the_socket_and_the_model(tmp_path: Path) -> None:
    """The receiver's memory is what the module is called with, and what it returns is what is sent."""
    seen: dict[str, int] = {}

    class Watches(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x * 2
            seen.update(x=x.data_ptr(), y=y.data_ptr())
            return y

    path = tmp_path / "m.pt"
    torch.save({"weight": torch.ones(1)}, path)
    from tensorwire.servers.engines.pt.build import Threads
    from tensorwire.servers.engines.pt.model import TorchModel
    from tensorwire.servers.engines.pt.program import Argument, Program

    class Notes(TorchModel):
        def run(self, signature: str, inputs: Any, outputs: Any) -> Any:
            found = super().run(signature, inputs, outputs)
            seen.update(received=address(inputs["x"]), sent=address(found["output"]))
            return found

    program = Program(Watches(), lambda given: ((), given), (Argument("x", tw.TensorSpec("x")),))
    model = Notes(program, path, CpuTensors(), torch.device("cpu"), 1, Threads(0, 0))
    x = np.arange(1 << 20, dtype=np.float32)
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        np.testing.assert_array_equal(client.infer({"x": x})["output"], x * 2)
    assert seen["x"] == seen["received"] and seen["y"] == seen["sent"]
    assert seen["x"] % 64 == 0
