"""Models and clients that do what they should not, over the wire: a clear error each, and the server goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx_models import ELEMENT, save, tensor

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.function import FunctionModel

X = np.arange(6, dtype=np.float32).reshape(3, 2)
IN, OUT = tw.TensorSpec("x", np.float32, (-1, 2)), tw.TensorSpec("y", np.float32, (-1, 2))


class Unusual(BaseException):
    """Neither an Exception nor one of the interpreter's own."""


class Model:
    """Gives back x, unless it is told to do something else, once."""

    def __init__(self) -> None:
        self.next: Callable[[Any], Any] | None = None

    def __call__(self, inputs: dict[str, Any]) -> Any:
        now, self.next = self.next, None
        return {"y": now(inputs["x"]) if now else inputs["x"]}


def served(model: Model, inline: bool) -> BackgroundServer:
    return BackgroundServer(FunctionModel(model, name="m", inputs=[IN], outputs=[OUT], inline=inline))


def raising(error: BaseException) -> Callable[[Any], Any]:
    def fail(x: Any) -> Any:
        raise error

    return fail


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    ("misdeed", "text"),
    [
        (raising(MemoryError("no room for 9 TB")), "MemoryError: no room for 9 TB"),
        (lambda x: np.empty((1 << 45, 2), np.float32), "MemoryError"),
        (raising(Unusual("odd")), "Unusual: odd"),
        (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
        (raising(SystemExit(0)), "SystemExit: 0"),
        (raising(GeneratorExit()), "GeneratorExit"),
        (raising(RecursionError("too deep")), "RecursionError: too deep"),
        (lambda x: x[:, :1], "output 'y': shape [3, 1] float32 came from the model, [-1, 2] float32 is declared"),
        (lambda x: x.astype("f8"), "output 'y': shape [3, 2] float64 came from the model, [-1, 2] float32"),
        (lambda x: x[0], "output 'y': shape [2] float32 came from the model"),
        (lambda x: None, "None was returned where an array is expected"),
        (lambda x: {"y": x}, "output 'y': shape [] string came from the model"),
    ],
)
def test_a_model_that_fails_is_a_500_and_the_next_request_is_answered(
    misdeed: Callable[[Any], Any], text: str, inline: bool
) -> None:
    model = Model()
    with served(model, inline) as server, tw.Client(server.url) as client:
        model.next = misdeed
        with pytest.raises(tw.RemoteError) as caught:
            client.infer({"x": X})
        assert caught.value.code == 500
        assert caught.value.message.startswith("model 'm' failed: ")
        assert text in caught.value.message
        np.testing.assert_array_equal(client.infer({"x": X})["y"], X)


@pytest.mark.parametrize("inline", [False, True])
def test_not_a_number_passes_with_its_bits(inline: bool) -> None:
    odd = np.array([[0x7FC00001, 0xFFC12345], [0x7F800001, 0xFF800000]], np.uint32).view(np.float32)
    model = Model()
    with served(model, inline) as server, tw.Client(server.url) as client:
        assert client.infer({"x": odd})["y"].tobytes() == odd.tobytes()
        model.next = lambda x: x * np.nan
        assert np.isnan(client.infer({"x": X})["y"]).all()


@pytest.mark.parametrize("inline", [False, True])
def test_no_rows(inline: bool) -> None:
    with served(Model(), inline) as server, tw.Client(server.url) as client:
        y = client.infer({"x": X[:0]})["y"]
        assert (y.shape, y.dtype) == ((0, 2), np.float32)


@pytest.mark.parametrize(
    ("inputs", "text"),
    [
        ({"x": np.array([[b"1", b"2"]], object)}, "input 'x': shape [1, 2] string came, expected [-1, 2] float32"),
        ({"x": X.astype("i4")}, "input 'x': shape [3, 2] int32 came, expected [-1, 2] float32"),
        ({"x": X, "z": X}, "unknown input 'z': the model takes 'x'"),
        ([X, X], "2 inputs came, the model takes 'x'"),
        ({}, "no input came, the model takes 'x'"),
        ({"x": X[0]}, "input 'x': shape [2] float32 came, expected [-1, 2] float32"),
    ],
)
def test_a_request_that_does_not_fit_is_a_400_and_the_next_is_answered(inputs: Any, text: str) -> None:
    with served(Model(), False) as server, tw.Client(server.url) as client:
        with pytest.raises(tw.RemoteError) as caught:
            client.infer(inputs)
        assert (caught.value.code, caught.value.message) == (400, text)
        np.testing.assert_array_equal(client.infer({"x": X})["y"], X)


def test_an_onnx_file_that_declares_another_shape_is_served_and_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    given = [tensor("x", ELEMENT.FLOAT, ("n", 2)), tensor("s", ELEMENT.INT64, (2,))]
    path = save(tmp_path, [("Reshape", ["x", "s"], ["y"])], given, [tensor("y", ELEMENT.FLOAT, (1, 2))])
    with BackgroundServer(path) as server, tw.Client(server.url) as client:
        for _ in range(2):
            y = client.infer({"x": X, "s": np.array([2, 3])})["y"]
            np.testing.assert_array_equal(y, X.reshape(2, 3))
    told = [record.message for record in caplog.records if record.name == "tensorwire.service"]
    assert told == [
        "output 'y': shape [2, 3] float32 came from the model, [1, 2] float32 is declared; "
        "it is sent as it is, and not told again"
    ]
