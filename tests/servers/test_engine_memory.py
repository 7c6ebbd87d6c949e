"""From the socket to the framework and back: the addresses of tensors on their whole way, over the wire."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.fronts import wire
from tensorwire.servers.model import Array, Model

SIZES = [1 << 12, 1 << 21]  # float32 values; of the larger one ONNX Runtime writes its output into a Chunk


class Seen(NamedTuple):
    """Where a tensor lay."""

    address: int
    nbytes: int


class Trace:
    """What was seen of the last request: ``chunks`` is the memory that its inputs were received in, ``given`` and
    ``found`` what the framework was called with and has made, ``sent`` the buffers of the answer.
    """

    def __init__(self) -> None:
        self.chunks: list[Seen] = []
        self.given: list[int] = []
        self.found: list[int] = []
        self.sent: list[Seen] = []

    def watch(self, model: Model) -> None:
        """Note where the inputs of the model's calls are from."""
        run = model.run

        def noted(signature: str, inputs: Any, outputs: Any) -> Any:
            self.chunks = [chunk_of(x) for x in inputs.values()]
            return run(signature, inputs, outputs)

        model.run = noted  # type: ignore[method-assign]


def address(x: Array) -> int:
    return int(x.__array_interface__["data"][0])


def chunk_of(x: Any) -> Seen:
    while isinstance(x, np.ndarray | memoryview):
        x = x.base if isinstance(x, np.ndarray) else x.obj
    assert isinstance(x, tw.Chunk)
    return Seen(x.address, x.nbytes)


@pytest.fixture
def trace(monkeypatch: pytest.MonkeyPatch) -> Trace:
    made = Trace()

    def encode(message: Any, **options: Any) -> tw.Frame:
        frame = tw.encode(message, **options)
        views = [np.frombuffer(part, np.uint8) for part in frame.buffers if len(part)]
        made.sent = [Seen(address(view), view.nbytes) for view in views]
        return frame

    monkeypatch.setattr(wire, "encode", encode)
    return made


def tensorflow(trace: Trace, path: Path) -> Model:
    models = pytest.importorskip("tf_models")
    if not models.HERE:
        pytest.skip("runs on TensorFlow")

    def build(tf: Any) -> None:
        tf.multiply(tf.placeholder(tf.float32, [None], name="x"), 2.0, name="y")

    def data(tensor: Any) -> int:
        """Where the tensor's own memory is: the first field of the DLManagedTensor that TensorFlow gives out."""
        capsule = models.tensorflow().experimental.dlpack.to_dlpack(tensor)
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        return int(ctypes.c_void_p.from_address(pointer(capsule, b"dltensor")).value or 0)

    model = models.load(models.save_graph(path / "m.pb", build))
    compute = model._run

    def noted(args: Any, **options: Any) -> Any:
        found = compute(args=args, **options)
        trace.given, trace.found = [data(args[0])], [data(tensor) for tensor in found]
        return found

    model._run = noted
    return model


def onnx(trace: Trace, path: Path) -> Model:
    pytest.importorskip("onnxruntime", reason="it runs the model")
    models = pytest.importorskip("onnx_models")
    x = models.tensor("x", models.ELEMENT.FLOAT)
    y = models.tensor("y", models.ELEMENT.FLOAT)
    from tensorwire.servers.engines.ort import ENGINE

    model: Any = ENGINE.load(models.save(path, [("Add", ["x", "x"], ["y"])], [x], [y]), options={})
    session = model._session

    class Binding:
        """One that notes the memory of what it is given."""

        def __init__(self) -> None:
            self.own = session.io_binding()

        def bind_ortvalue_input(self, name: str, value: Any) -> None:
            trace.given = [value.data_ptr()]
            self.own.bind_ortvalue_input(name, value)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.own, name)

    class Session:
        """Small outputs are ONNX Runtime's own memory, which a PyCapsule of its holds; large ones are bound."""

        def io_binding(self) -> Any:
            return Binding()

        def run(self, outputs: Any, feeds: Any) -> Any:
            found = session.run(outputs, feeds)
            assert type(found[0].base).__name__ == "PyCapsule"
            trace.given, trace.found = [address(feeds["x"])], [address(found[0])]
            return found

        def run_with_iobinding(self, binding: Any) -> None:
            session.run_with_iobinding(binding.own)
            trace.found = [value.data_ptr() for value in binding.own.get_outputs()]

    model._binder._session = Session()
    return model


def pytorch(trace: Trace, path: Path) -> Model:
    torch = pytest.importorskip("torch", reason="it runs the model")
    models = pytest.importorskip("torch_models")
    from tensorwire.servers.engines.pt import ENGINE

    class Double(torch.nn.Module):
        def forward(self, x: Any) -> Any:
            y = x * 2
            trace.given, trace.found = [x.data_ptr()], [y.data_ptr()]
            return y

    model: Any = ENGINE.load(models.script(models.Identity(), path / "m.pt"), options={})
    model._program = replace(model._program, forward=Double())
    return model


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("make", [tensorflow, onnx, pytorch])
def test_nothing_is_copied_between_the_socket_and_the_framework(
    trace: Trace, tmp_path: Path, make: Callable[[Trace, Path], Model], size: int
) -> None:
    """The framework computes on the memory that the kernel has written the request to, and the kernel reads the answer
    from the memory that the framework has written it to: from the first request on.
    """
    model = make(trace, tmp_path)
    trace.watch(model)
    with BackgroundServer(model) as server, tw.Client(server.url) as client:
        name = client.metadata().inputs[0].name
        for step in range(3):
            x = np.arange(size, dtype=np.float32) + step
            (y,) = client.infer({name: x}).values()
            np.testing.assert_array_equal(y, x * 2)
            (chunk,), (given,), (found,) = trace.chunks, trace.given, trace.found
            assert chunk.address < given and given + x.nbytes <= chunk.address + chunk.nbytes
            assert given % 64 == 0
            assert Seen(found, x.nbytes) in trace.sent
