"""Tensors go both ways without a copy in user space, as the library counts it; and what is copied is counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models
import oracle
import pytest
from onnx_models import ELEMENT, tensor
from rawhttp import Raw, chunked, post

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

Connect = Callable[..., Any]
RANDOM = np.random.default_rng(0)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundServer]:
    """In this process: what it copies counts here, beside what a client does."""
    places = ["127.0.0.1:0", f"unix:{tmp_path_factory.mktemp('copies') / 's'}"]
    with BackgroundServer(EchoModel(), listen=places) as server:
        yield server


@contextmanager
def counted() -> Iterator[dict[str, int]]:
    """What is copied within the block; known when it ends."""
    before = tw.copy_stats()
    copied: dict[str, int] = {}
    yield copied
    after = tw.copy_stats()
    copied.update(received=after["received"] - before["received"], sent=after["sent"] - before["sent"])


@pytest.mark.parametrize("place", [0, 1], ids=["tcp", "unix"])
@pytest.mark.parametrize(
    "x",
    [
        pytest.param(np.ones((128, 3, 224, 224), np.float32), id="77 MB"),
        pytest.param(np.ones((10, 3, 224, 224), np.float32), id="6 MB"),
        pytest.param(np.linspace(0, 1, 123_457), id="float64"),
    ],
)
def test_nothing_is_copied(connect: Connect, server: BackgroundServer, place: int, x: np.ndarray[Any, Any]) -> None:
    with connect(server.app.urls[place]) as client:
        for _ in range(3):  # on a new connection, and on one that is kept
            with counted() as copied:
                y = client.infer({"x": x})["x"]
            assert copied == {"received": 0, "sent": 0}
            assert np.array_equal(y, x)


def test_small_messages_come_with_their_heads(connect: Connect, server: BackgroundServer) -> None:
    x = np.arange(1024, dtype=np.float32)
    with connect(server.url) as client:
        client.infer({"x": x})
        with counted() as copied:
            client.infer({"x": x})
        assert copied["received"] == 2 * x.nbytes  # by the server, and by the client
        assert copied["sent"] == x.nbytes  # by the server, beside the message's header


@pytest.mark.parametrize("x", [RANDOM.random((300, 400))[:, ::2], RANDOM.random(50_000).astype(">f8")])
def test_arrays_that_are_not_as_the_wire_wants_them(
    connect: Connect, server: BackgroundServer, x: np.ndarray[Any, Any]
) -> None:
    with connect(server.url) as client:
        with counted() as copied:
            assert np.array_equal(client.infer({"x": x})["x"], x)
        assert copied == {"received": 0, "sent": x.nbytes}


def test_arrays_of_the_callers(connect: Connect, server: BackgroundServer) -> None:
    x = RANDOM.random(500_000)
    wide = np.empty((500_000, 2))
    with connect(server.url) as client:
        with counted() as copied:
            client.infer({"x": x}, out={"x": np.empty_like(x)})
        assert 0 < copied["received"] <= 2 * 4096  # what has to be seen of the answer before its place is known
        with counted() as copied:
            client.infer({"x": x}, out={"x": wide[:, 0]})
        assert copied["received"] == x.nbytes


@pytest.mark.parametrize("way", [chunked, post], ids=["chunked", "handed over"])
def test_bodies_through_the_other_protocols_server(server: BackgroundServer, way: Callable[[bytes], bytes]) -> None:
    x = RANDOM.random(100_000)
    body = bytes(tw.encode(tw.Request({"x": x})))
    with Raw(server.url) as raw:
        raw.get("/healthz")
        with counted() as copied:
            raw.send(way(body))
            assert raw.answer().status == 200
        assert copied["received"] == x.nbytes
        assert x.nbytes <= copied["sent"] < x.nbytes + 1000


def test_foreign_messages_that_a_framework_cannot_read_in_place(tmp_path: Path) -> None:
    """flatbuffers' own builders put a payload on a boundary of 4 bytes, wherever the fields before it end."""
    path = onnx_models.save(
        tmp_path, [("Neg", ["x"], ["y"])], [tensor("x", ELEMENT.DOUBLE)], [tensor("y", ELEMENT.DOUBLE)]
    )
    x = RANDOM.random(50_000)
    foreign = oracle.build_request({"input_names": ["x"], "input_tensors": [oracle.as_tensor(x)]})
    assert not tw.decode(foreign, tw.Request).inputs["x"].flags.aligned
    ours = bytes(tw.encode(tw.Request({"x": x})))
    with BackgroundServer(path) as server, Raw(server.url) as raw:
        for body, expected in ((foreign, x.nbytes), (ours, 0)):
            with counted() as copied:
                answer = raw.post(body)
            assert np.array_equal(tw.decode(answer.body, tw.Response).outputs[0], -x)
            assert copied["received"] == expected


def test_messages_in_segments() -> None:
    x = RANDOM.random(1000)
    frame = tw.encode(tw.Request({"x": x}))
    with counted() as copied:
        assert np.array_equal(tw.decode(frame.buffers, tw.Request).inputs["x"], x)
    assert copied == {"received": x.nbytes, "sent": 0}
    whole = bytes(frame)  # as is asked for: not counted
    with counted() as copied:
        for start in range(8):  # a view wherever it lies
            misplaced = bytearray(start) + whole
            assert np.array_equal(tw.decode(memoryview(misplaced)[start:], tw.Request).inputs["x"], x)
    assert copied == {"received": 0, "sent": 0}
