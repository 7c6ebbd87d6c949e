"""Client: what a call sends, what it returns and what it raises."""

from __future__ import annotations

import gc
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from scripted import Server, Start, answer, play, until_closed

import tensorwire as tw

Wire = Callable[..., Server]
Connect = Callable[..., Any]
SPECS = [tw.TensorSpec("p", np.float32, (-1, 2)), tw.TensorSpec("q", object)]
METADATA = tw.Metadata("m", "7", "tests", "a model", [tw.TensorSpec("x", np.float64)], SPECS)


def doubled(request: Any) -> tw.Response | tw.Metadata:
    """A model: every input times two, under its own name."""
    if isinstance(request, tw.MetadataRequest):
        return METADATA
    names = request.inputs.names
    arrays = [array * 2 for array in request.inputs.arrays]
    return tw.Response(dict(zip(names, arrays, strict=True)) if names else arrays)


def unnamed(request: Any) -> tw.Response | tw.Metadata:
    """A model as GraphPipe's servers are: two outputs, no names."""
    if isinstance(request, tw.MetadataRequest):
        return METADATA
    return tw.Response([np.arange(2.0), np.arange(3.0)])


def test_infer(connect: Connect, wire: Wire) -> None:
    x = np.arange(6.0).reshape(2, 3)
    with connect(wire(doubled).url) as client:
        result = client.infer({"x": x, "n": np.arange(2)})
        assert result.names == ("x", "n")
        np.testing.assert_array_equal(result["x"], x * 2)
        np.testing.assert_array_equal(result["n"], [0, 2])
        np.testing.assert_array_equal(client.infer(x)[0], x * 2)
        np.testing.assert_array_equal(client.infer([x, x[0]])[1], x[0] * 2)
        np.testing.assert_array_equal(client.infer({"x": x.T})["x"], x.T * 2)


def test_every_field_of_the_request_is_sent(connect: Connect, wire: Wire) -> None:
    fields: dict[str, Any] = {
        "config": "c",
        "model": "m",
        "version": 3,
        "label": "l",
        "signature": "s",
        "id": "i",
        "deadline_ms": 5000,
    }
    server = wire(doubled)
    with connect(server.url) as client:
        client.infer({"x": np.arange(3)}, ["x"], **fields)
    assert tw.decode(server.requests[0][1], tw.Request) == tw.Request({"x": np.arange(3)}, ["x"], **fields)


def test_results_are_views_of_one_chunk(connect: Connect, wire: Wire) -> None:
    inputs = {"x": np.zeros(1000), "y": np.zeros(2000, np.int32)}
    with connect(wire(doubled).url) as client:
        result = client.infer(inputs)
    chunk = result["x"].base
    assert isinstance(chunk, tw.Chunk)
    assert result["y"].base is chunk
    block = np.frombuffer(chunk, np.uint8)
    assert np.shares_memory(result["x"], block)
    assert np.shares_memory(result["y"], block)
    assert result["x"].flags.writeable
    assert result["x"].ctypes.data % 64 == 0


def test_a_result_outlives_its_client_and_its_siblings(connect: Connect, wire: Wire) -> None:
    with connect(wire(doubled).url) as client:
        y = client.infer({"x": np.arange(100_000.0), "z": np.zeros(5000)})["x"]
        client.infer({"x": np.zeros(100_000)})
    gc.collect()
    np.testing.assert_array_equal(y, np.arange(100_000.0) * 2)


def test_outputs_are_named_as_asked_for(connect: Connect, wire: Wire) -> None:
    with connect(wire(unnamed).url) as client:
        assert client.infer({"x": 1.0}).names == ()
        result = client.infer({"x": 1.0}, ["b", "a"])
        assert result.names == ("b", "a")
        np.testing.assert_array_equal(result["a"], [0, 1, 2])
        assert client.infer({"x": 1.0}, ["a", "a"]).names == ()
        with pytest.raises(tw.DecodeError, match=r"3 outputs asked for \(a, b, c\), 2 received"):
            client.infer({"x": 1.0}, ["a", "b", "c"])


def test_the_answers_own_names_come_first(connect: Connect, wire: Wire) -> None:
    with connect(wire(doubled).url) as client:
        client.metadata()
        assert client.infer({"x": 1.0, "y": 2.0}, ["b", "a"]).names == ("x", "y")


def test_outputs_are_named_by_metadata_that_was_asked_for(connect: Connect, wire: Wire) -> None:
    with connect(wire(unnamed).url) as client:
        assert client.infer({"x": 1.0}).names == ()
        client.metadata()
        assert client.infer({"x": 1.0}).names == ("p", "q")
        assert client.infer({"x": 1.0}, ["a", "b"]).names == ("a", "b")
        assert client.infer({"x": 1.0}, model="other").names == ()
        assert client.infer({"x": 1.0}, signature="other").names == ()


def test_metadata_that_counts_otherwise_names_nothing(connect: Connect, wire: Wire) -> None:
    def model(request: Any) -> tw.Response | tw.Metadata:
        return METADATA if isinstance(request, tw.MetadataRequest) else tw.Response([np.zeros(1)] * 3)

    with connect(wire(model).url) as client:
        client.metadata()
        assert client.infer({"x": 1.0}).names == ()


def test_metadata(connect: Connect, wire: Wire) -> None:
    server = wire(doubled)
    with connect(server.url) as client:
        assert client.metadata() == METADATA
        assert client.send(tw.MetadataRequest()) == METADATA
    assert server.accepted == 1


def test_send_returns_the_answer_as_it_came(connect: Connect, wire: Wire) -> None:
    with connect(wire(unnamed).url) as client:
        response = client.send(tw.Request({"x": 1.0}, ["a", "b"]))
    assert isinstance(response, tw.Response)
    assert response.outputs.names == ()


def test_errors_of_the_model(connect: Connect, wire: Wire) -> None:
    def failing(request: Any) -> tw.Response:
        return tw.Response(errors=[tw.Status(-7, "too hot"), tw.Status(2, "and dry")])

    with connect(wire(failing).url) as client:
        with pytest.raises(tw.RemoteError) as caught:
            client.infer({"x": 1.0})
        error = caught.value
        assert (error.code, error.message, error.status) == (-7, "too hot; and dry", 200)
        with pytest.raises(tw.RemoteError):
            client.infer({"x": 1.0})


REFUSED = bytes(tw.encode(tw.Response(errors=[tw.Status(5, "no such model")])))


@pytest.mark.parametrize(
    ("data", "code", "message"),
    [
        (answer(REFUSED, "404 Not Found"), 5, "no such model"),
        (answer(b"\r\n  out of luck \r\nmore\r\n", "500 Oh"), 500, "out of luck"),
        (answer("schön".encode(), "500 Oh"), 500, "schön"),
        (answer(b"\xff\xfe", "500 Oh"), 500, "\ufffd\ufffd"),
        (answer(b"", "503 Service Unavailable"), 503, "Service Unavailable"),
        (answer(b"  \n ", "503 Service Unavailable"), 503, "Service Unavailable"),
        (b"HTTP/1.1 500\r\nContent-Length: 0\r\n\r\n", 500, "HTTP status 500"),
        (answer(bytes(tw.encode(tw.Response([np.zeros(9)]))), "201 Created")[:-1] + b"\0", 201, None),
        (answer(b"moved", "301 Moved Permanently", "Location: /x"), 301, "moved"),
    ],
)
def test_a_status_other_than_200_is_a_remote_error(
    connect: Connect, start: Start, data: bytes, code: int, message: str | None
) -> None:
    server = play(start, data, data)
    with connect(server.url) as client:
        for ask in (lambda: client.infer({"x": 1.0}), client.metadata):
            with pytest.raises(tw.RemoteError) as caught:
                ask()
            assert caught.value.code == code
            assert caught.value.status == int(data.split()[1])
            if message is not None:
                assert caught.value.message == message
    assert server.accepted == 1


def test_an_early_refusal_carries_the_servers_error(connect: Connect, start: Start) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1000)
        sock.sendall(answer(REFUSED, "413 Content Too Large"))

    with connect(start(script).url) as client, pytest.raises(tw.RemoteError) as caught:
        client.infer({"x": np.zeros(50_000_000, np.uint8)})
    assert (caught.value.code, caught.value.status) == (5, 413)


@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", bytes(tw.encode(tw.Response([1.0])))[:-9]])
def test_a_body_that_is_no_message_is_a_decode_error(connect: Connect, start: Start, body: bytes) -> None:
    server = play(start, answer(body))
    with connect(server.url) as client, pytest.raises(tw.DecodeError) as caught:
        client.infer({"x": 1.0})
    assert str(caught.value).startswith(f"{server.url}: {len(body)} bytes received are not the answer: ")


def test_a_result_over_the_limit_is_refused(connect: Connect, wire: Wire) -> None:
    with (
        connect(wire(doubled).url, max_nbytes=10_000) as client,
        pytest.raises(tw.LimitError, match="max_nbytes is 10000"),
    ):
        client.infer({"x": np.zeros(10_000, np.uint8)})


def test_an_input_that_cannot_be_sent_costs_no_connection(connect: Connect, wire: Wire) -> None:
    server = wire(doubled)
    with connect(server.url) as client, pytest.raises(tw.EncodeError):
        client.infer({"x": np.zeros(2, "datetime64[s]")})
    assert server.accepted == 0


def test_path_and_headers_are_sent(connect: Connect, start: Start) -> None:
    server = play(start, answer(bytes(tw.encode(tw.Response()))))
    with connect(server.url + "/models/a?v=1", headers={"Authorization": "Bearer t"}) as client:
        assert len(client.infer({"x": 1.0})) == 0
    lines = server.requests[0][0].split(b"\r\n")
    assert lines[0] == b"POST /models/a?v=1 HTTP/1.1"
    assert b"authorization: Bearer t" in lines


def test_threads_share_a_client(wire: Wire) -> None:
    barrier = threading.Barrier(8)
    server = wire(doubled)
    with tw.Client(server.url) as client, ThreadPoolExecutor(8) as pool:

        def call(i: int) -> None:
            barrier.wait(60)
            for k in range(20):
                x = np.full(100 * i + 1, k)
                np.testing.assert_array_equal(client.infer({"x": x})["x"], x * 2)

        list(pool.map(call, range(8)))
        assert 1 <= server.accepted <= 8
    assert len(server.requests) == 160


def test_a_timeout_is_a_deadline_exceeded(connect: Connect, start: Start) -> None:
    with connect(start(until_closed).url, timeout=0.1) as client, pytest.raises(tw.DeadlineExceeded):
        client.infer({"x": 1.0})


def test_the_client_gives_up_on_a_request_whose_deadline_has_passed(connect: Connect, start: Start) -> None:
    with connect(start(until_closed).url) as client, pytest.raises(tw.DeadlineExceeded, match=r"0\.26 s"):
        client.infer({"x": 1.0}, deadline_ms=10)


def test_a_connection_that_is_not_accepted_is_a_deadline_exceeded(connect: Connect, tmp_path: Any) -> None:
    path = str(tmp_path / "full.sock")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as first:
        listener.bind(path)
        listener.listen(0)
        first.connect(path)  # Takes the only place in the backlog.
        with (
            connect(f"unix://{path}", connect_timeout=0.05) as client,
            pytest.raises(tw.DeadlineExceeded, match=r"limit of 0.05 s"),
        ):
            client.infer({"x": 1.0})


def test_close(connect: Connect, wire: Wire) -> None:
    server = wire(doubled)
    client = connect(server.url)
    client.infer({"x": 1.0})
    client.close()
    client.close()
    server.join()  # The server sees the connection end.
    with pytest.raises(RuntimeError, match="is closed"):
        client.infer({"x": 1.0})
    assert repr(client) in (f"Client({server.url!r})", f"AsyncClient({server.url!r})")


def test_an_answer_under_way_survives_close(start: Start) -> None:
    asked, go = threading.Event(), threading.Event()

    def script(sock: socket.socket) -> None:
        server.read(sock)
        asked.set()
        go.wait(60)
        sock.sendall(answer(bytes(tw.encode(tw.Response({"y": np.ones(1)})))))
        until_closed(sock)

    server = start(script)
    client = tw.Client(server.url)
    with ThreadPoolExecutor(1) as pool:
        result = pool.submit(client.infer, {"x": 1.0})
        assert asked.wait(60)
        client.close()
        go.set()
        assert result.result(60)["y"] == 1
    server.join()


FORKS = """
import os, sys, tensorwire as tw

with tw.Client(sys.argv[1]) as client:
    assert client.infer({"x": 1.0})["x"] == 2
    if not os.fork():
        os._exit(0 if client.infer({"x": 2.0})["x"] == 4 else 1)
    assert os.wait()[1] == 0
    assert client.infer({"x": 3.0})["x"] == 6
"""


def test_a_forked_child_does_not_use_its_parents_connections(wire: Wire) -> None:
    server = wire(doubled)
    subprocess.run([sys.executable, "-c", FORKS, server.url], check=True, timeout=60)
    assert server.accepted == 2


@pytest.mark.parametrize("options", [{"timeout": 0}, {"timeout": -1}, {"connect_timeout": 0.0}])
def test_bad_timeouts(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="must be over 0 seconds"):
        tw.Client("http://h", **options)  # type: ignore[arg-type]
