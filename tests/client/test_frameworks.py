"""Tensors of PyTorch and TensorFlow are sent as they are, and what comes back is theirs again."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

SIZE = 40_000


@pytest.fixture(scope="module")
def client() -> Iterator[tw.Client]:
    with BackgroundServer(EchoModel()) as server, tw.Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch")


@pytest.fixture(scope="module")
def tf() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what TensorFlow imports
        return pytest.importorskip("tensorflow")


def addresses(frame: tw.Frame) -> list[int]:
    return [np.frombuffer(part, np.uint8).ctypes.data for part in frame.buffers]


@pytest.mark.parametrize(
    "name",
    [
        *("float32", "float64", "float16", "bfloat16", "int8", "int64", "uint8", "bool"),
        *("complex64", "complex128", "float8_e4m3fn", "float8_e5m2"),
    ],
)
def test_torch(client: tw.Client, torch: Any, name: str) -> None:
    given = (torch.arange(SIZE) % 2).to(getattr(torch, name)).reshape(200, -1)
    assert given.data_ptr() in addresses(tw.encode(tw.Request({"x": given})))
    before = tw.copy_stats()
    came = client.infer({"x": given})["x"]
    assert tw.copy_stats() == before
    back = torch.from_dlpack(tw.Tensor(came))
    assert back.data_ptr() == came.ctypes.data
    assert back.dtype == given.dtype
    assert torch.equal(back.view(torch.uint8), given.view(torch.uint8))


def test_torch_tensors_of_other_layouts(client: tw.Client, torch: Any) -> None:
    x = torch.arange(SIZE).reshape(200, 200)
    assert np.array_equal(client.infer({"x": x.T})["x"], x.T.numpy())
    assert client.infer({"x": torch.tensor(3.5)})["x"].tolist() == 3.5
    assert client.infer({"x": torch.empty(0, 3)})["x"].shape == (0, 3)
    assert client.infer([x, x + 1])[1][0, 0] == 1


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda torch: torch.ones(3, requires_grad=True), "require gradient, use tensor.detach"),
        (lambda torch: torch.eye(3).to_sparse(), "layout other than torch.strided"),
        (lambda torch: torch.ones(3, device="meta"), "meta"),
    ],
)
def test_torch_tensors_that_are_no_memory(client: tw.Client, torch: Any, make: Any, text: str) -> None:
    with pytest.raises(tw.EncodeError, match=f"input 'x': .*{text}"):
        client.infer({"x": make(torch)})


@pytest.mark.parametrize(
    "name",
    ["float32", "float64", "float16", "bfloat16", "int8", "int64", "uint8", "bool", "complex64", "complex128"],
)
def test_tensorflow(client: tw.Client, tf: Any, name: str) -> None:
    given = tf.cast(tf.reshape(tf.range(SIZE) % 2, (200, -1)), name)
    if name != "bfloat16":  # which TensorFlow does not lend, and copies
        lent = np.asarray(memoryview(given))
        assert lent.ctypes.data in addresses(tw.encode(tw.Request({"x": given})))
    before = tw.copy_stats()
    came = client.infer({"x": given})["x"]
    assert tw.copy_stats() == before
    assert came.dtype == given.dtype.as_numpy_dtype
    back = tf.constant(came)
    assert back.dtype == given.dtype
    assert came.tobytes() == given.numpy().tobytes()


def test_text_of_tensorflow(client: tw.Client, tf: Any) -> None:
    given = tf.constant([["a", b"\0\xff\0"], ["", "ü"]])
    assert client.infer({"x": given})["x"].tolist() == given.numpy().tolist()
    assert client.infer({"x": tf.constant("one")})["x"].tolist() == b"one"


def test_variables(client: tw.Client, tf: Any) -> None:
    for dtype in (tf.float32, tf.bfloat16):
        variable = tf.Variable(tf.cast(tf.range(SIZE), dtype))
        assert client.infer({"x": variable})["x"].tobytes() == variable.numpy().tobytes()
