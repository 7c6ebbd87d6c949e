"""out=: outputs are received into the caller's arrays, the large one without a copy."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scripted import CHUNKED, Server, Start, answer, play

import tensorwire as tw
from tensorwire import _into

Connect = Callable[..., Any]
Array = NDArray[Any]
LARGE = np.arange(300_000, dtype=np.float32).reshape(300, 1000)


def message(outputs: Any) -> bytes:
    return bytes(tw.encode(tw.Response(outputs)))


@pytest.mark.parametrize("others", [{}, {"a": np.arange(5)}, {"z": np.ones(60)}, {"z": np.ones(9000)}])
def test_a_large_output_is_received_where_it_belongs(connect: Connect, start: Start, others: dict[str, Array]) -> None:
    outputs = dict(sorted({**others, "y": LARGE}.items()))
    server = play(start, answer(message(outputs)))
    y = np.zeros_like(LARGE)
    with connect(server.url) as client:
        before = tw.copy_stats()["received"]
        result = client.infer({"x": 1.0}, out={"y": y})
        copied = tw.copy_stats()["received"] - before
    assert copied <= 16 * 1024  # at most what comes with the head
    assert result["y"] is y
    assert result.names == tuple(outputs)
    for name, expected in outputs.items():
        np.testing.assert_array_equal(result[name], expected)


def test_two_large_outputs(connect: Connect, start: Start) -> None:
    server = play(start, answer(message({"y": LARGE, "z": LARGE * 2})))
    out = {"y": np.zeros_like(LARGE), "z": np.zeros_like(LARGE)}
    with connect(server.url) as client:
        result = client.infer({"x": 1.0}, out=out)
    for name, array in out.items():
        assert result[name] is array
        np.testing.assert_array_equal(array, LARGE if name == "y" else LARGE * 2)


@pytest.mark.parametrize(
    "out",
    [
        np.zeros((1000, 300), np.float32).T,
        np.zeros((300, 2000), np.float32)[:, ::2],
    ],
)
def test_an_array_that_is_not_contiguous_is_copied_into(connect: Connect, start: Start, out: Array) -> None:
    server = play(start, answer(message({"y": LARGE})))
    with connect(server.url) as client:
        assert client.infer({"x": 1.0}, out={"y": out})["y"] is out
    np.testing.assert_array_equal(out, LARGE)


@pytest.mark.parametrize("value", [np.arange(3), np.float64(2.0), np.array([b"a", b"\0"], object), np.zeros((0, 3))])
def test_small_outputs_and_strings_are_copied_into(connect: Connect, start: Start, value: Any) -> None:
    value = np.asarray(value)
    out = np.empty_like(value)
    body = message({"y": value})
    chunked = CHUNKED + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    server = play(start, answer(body), chunked)
    with connect(server.url) as client:
        for _ in range(2):
            out[...] = 0
            assert client.infer({"x": 1.0}, out={"y": out})["y"] is out
            np.testing.assert_array_equal(out, value)


def test_unnamed_outputs_go_by_the_names_asked_for(connect: Connect, start: Start) -> None:
    server = play(start, answer(message([LARGE, LARGE * 2])), *[answer(message([LARGE]))] * 2)
    out = np.zeros_like(LARGE)
    with connect(server.url) as client:
        result = client.infer({"x": 1.0}, ["a", "b"], out={"b": out})
        np.testing.assert_array_equal(out, LARGE * 2)
        np.testing.assert_array_equal(result["a"], LARGE)
        result = client.infer({"x": 1.0}, out={"0": out})
        assert result.names == ()
        assert result[0] is out
        with pytest.raises(ValueError, match=r"out\['b'\]: the answer has no such output, but '0'"):
            client.infer({"x": 1.0}, out={"b": out})


@pytest.mark.parametrize(
    ("out", "text"),
    [
        ({"y": np.zeros((300, 1000))}, r"'y' is \[300, 1000\] float32, its array in out is \[300, 1000\] float64"),
        ({"y": np.zeros((1000, 300), np.float32)}, r"float32, its array in out is \[1000, 300\] float32"),
        ({"y": np.zeros((300, 1000), ">f4")}, "its array in out is .* >f4"),
        ({"z": np.zeros(3)}, r"out\['z'\]: the answer has no such output, but 'y'"),
    ],
)
def test_what_does_not_fit_is_an_error(connect: Connect, start: Start, out: Any, text: str) -> None:
    server = play(start, answer(message({"y": LARGE})), answer(message({"y": LARGE})))
    with connect(server.url) as client:
        with pytest.raises(ValueError, match=text):
            client.infer({"x": 1.0}, out=out)
        np.testing.assert_array_equal(client.infer({"x": 1.0})["y"], LARGE)
    assert server.accepted == 1


@pytest.mark.parametrize(("array", "text"), [(np.frombuffer(b"abcd", np.uint8), "read-only"), ([1, 2], "no ndarray")])
def test_what_cannot_be_written_to_is_refused_before_anything_is_sent(
    connect: Connect, start: Start, array: Any, text: str
) -> None:
    server = play(start)
    with connect(server.url) as client, pytest.raises(ValueError, match=text):
        client.infer({"x": 1.0}, out={"y": array})
    assert server.accepted == 0


def test_errors_leave_the_connection_in_order(connect: Connect, start: Start) -> None:
    error = bytes(tw.encode(tw.Response(errors=[tw.Status(5, "e" * 200_000)])))
    server = play(start, answer(error, "500 Oh"), answer(error), answer(message({"y": LARGE})))
    out = np.zeros_like(LARGE)
    with connect(server.url) as client:
        for _ in range(2):
            with pytest.raises(tw.RemoteError, match="eee"):
                client.infer({"x": 1.0}, out={"y": out})
        assert not out.any()
        client.infer({"x": 1.0}, out={"y": out})
    np.testing.assert_array_equal(out, LARGE)


def shared_payload() -> bytes:
    """A message whose two outputs have one payload: both tables point to the same bytes."""
    data = bytearray(message({"y": LARGE, "z": LARGE}))
    response = tw.decode(data, tw.Response)
    base = np.frombuffer(data, np.uint8).ctypes.data
    y, z = (array.ctypes.data - base for array in response.outputs.arrays)
    del response
    # Somewhere in the tables before the payloads stands the distance to z's vector, whose length is 4 bytes before it.
    for at in range(0, y - 4, 4):
        if struct.unpack_from("<I", data, at)[0] == z - 4 - at:
            struct.pack_into("<I", data, at, y - 4 - at)
            return bytes(data)
    raise AssertionError("no offset to the second payload")


def test_outputs_that_share_a_payload(connect: Connect, start: Start) -> None:
    server = play(start, answer(shared_payload()))
    out = np.zeros_like(LARGE)
    with connect(server.url) as client:
        result = client.infer({"x": 1.0}, out={"y": out})
    np.testing.assert_array_equal(out, LARGE)
    np.testing.assert_array_equal(result["z"], LARGE)


@pytest.mark.parametrize("offset", [8192, 100_000])
def test_a_wrong_guess_is_put_right(
    connect: Connect, start: Start, monkeypatch: pytest.MonkeyPatch, offset: int
) -> None:
    place = _into.Into.place

    def wrong(self: Any, body: tw.Chunk, got: int) -> Any:
        place(self, body, got)
        key, _, view = self._placed
        self._placed = key, offset, view[:500_000]
        return offset, view[:500_000]

    monkeypatch.setattr(_into.Into, "place", wrong)
    server: Server = play(start, answer(message({"y": LARGE})))
    out = np.zeros_like(LARGE)
    with connect(server.url) as client:
        client.infer({"x": 1.0}, out={"y": out})
    np.testing.assert_array_equal(out, LARGE)
