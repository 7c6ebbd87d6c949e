"""The wire over HTTP: what is answered, and what each mistake is told, on every way that a body comes."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import oracle
import pytest
from rawhttp import Answer, Raw, chunked, head, post
from waiting import Gate, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.fronts.wire import http_status, is_wire

X = np.arange(6, dtype=np.float32).reshape(2, 3)


def compute(inputs: dict[str, Any]) -> dict[str, Any]:
    """Twice x, and the sum of its rows."""
    x = inputs["x"]
    if x.size and x.flat[0] == -1:
        raise ZeroDivisionError("first element is -1")
    if x.size and x.flat[0] == -2:
        return {"twice": x * 2, "sums": np.array([object()])}
    return {"twice": x * 2, "sums": x.sum(axis=1)}


def make_model(*, inline: bool = False) -> FunctionModel:
    return FunctionModel(
        compute,
        inline=inline,
        inputs=[tw.TensorSpec("x", np.float32, (-1, 3))],
        outputs=[tw.TensorSpec("twice", np.float32, (-1, 3)), tw.TensorSpec("sums", None, (-1,))],
    )


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(make_model(), max_body=100_000) as server:
        yield server


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


Send = Callable[[bytes], Answer]


@pytest.fixture(params=["fast", "at once", "chunked", "handed over", "unix"])
def send(request: pytest.FixtureRequest, server: BackgroundServer) -> Iterator[Send]:
    """Sends a body in one of the ways there are, several on one connection."""
    if request.param == "unix":
        path = request.getfixturevalue("tmp_path") / "s"
        with BackgroundServer(make_model(), listen=f"unix:{path}") as other, Raw(other.url) as raw:
            yield raw.post
        return
    if request.param == "at once":
        with BackgroundServer(make_model(inline=True)) as other, Raw(other.url) as raw:
            yield raw.post
        return
    with Raw(server.url) as raw:
        if request.param == "handed over":
            assert raw.get("/healthz").status == 200

        def send(body: bytes) -> Answer:
            raw.send(chunked(body) if request.param == "chunked" else post(body))
            return raw.answer()

        yield send


def error(answer: Answer) -> tw.Status:
    """The one error of an answer."""
    (status,) = tw.decode(answer.body, tw.Response).errors
    return status


def test_request_without_outputs_is_answered_with_names(send: Send) -> None:
    answer = send(bytes(tw.encode(tw.Request({"x": X}))))
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/octet-stream"
    outputs = tw.decode(answer.body, tw.Response).outputs
    assert outputs.names == ("twice", "sums")
    assert np.array_equal(outputs["twice"], X * 2)


def test_request_with_outputs_is_answered_in_their_order_without_names(send: Send) -> None:
    outputs = tw.decode(send(bytes(tw.encode(tw.Request([X], ["sums", "twice"])))).body, tw.Response).outputs
    assert outputs.names == ()
    assert np.array_equal(outputs[0], X.sum(axis=1))
    assert np.array_equal(outputs[1], X * 2)


def test_metadata(send: Send) -> None:
    answer = send(bytes(tw.encode(tw.MetadataRequest())))
    metadata = tw.decode(answer.body, tw.Metadata)
    assert (answer.status, metadata.name, metadata.server) == (200, "compute", f"tensorwire/{tw.__version__}")
    assert [spec.name for spec in metadata.inputs] == ["x"]
    assert [spec.shape for spec in metadata.outputs] == [(-1, 3), (-1,)]


@pytest.mark.parametrize(
    ("message", "status", "words"),
    [
        (tw.Request({"x": X.astype(np.float64)}), 400, ["'x'", "float64", "float32"]),
        (tw.Request({"x": X.reshape(3, 2)}), 400, ["'x'", "[3, 2]", "[-1, 3]"]),
        (tw.Request({"x": X[0]}), 400, ["'x'", "[3]", "[-1, 3]"]),
        (tw.Request({"z": X}), 400, ["unknown input 'z'", "'x'"]),
        (tw.Request({}), 400, ["'x'"]),
        (tw.Request([X, X]), 400, ["2 inputs", "'x'"]),
        (tw.Request({"x": X}, ["nope"]), 400, ["unknown output 'nope'", "'twice'", "'sums'"]),
        (tw.Request({"x": X}, model="other"), 404, ["'other'", "'compute'"]),
        (tw.Request({"x": X}, version=7), 404, ["version 7"]),
        (tw.Request({"x": X}, signature="other"), 404, ["'other'"]),
    ],
)
def test_a_request_that_does_not_fit_is_told_why(
    send: Send, message: tw.Request, status: int, words: list[str]
) -> None:
    answer = send(bytes(tw.encode(message)))
    told = error(answer)
    assert (answer.status, told.code) == (status, status)
    for word in words:
        assert word in told.message
    assert send(bytes(tw.encode(tw.Request({"x": X})))).status == 200


def test_duplicate_input(send: Send) -> None:
    tensor = oracle.as_tensor(X)
    body = oracle.build_request({"input_names": ["x", "x"], "input_tensors": [tensor, tensor]})
    answer = send(body)
    assert answer.status == 400
    assert "'x'" in error(answer).message


def test_model_exception_names_the_request_and_the_server_goes_on(
    send: Send, caplog: pytest.LogCaptureFixture
) -> None:
    answer = send(bytes(tw.encode(tw.Request({"x": -np.ones((1, 3), np.float32)}, id="job-17"))))
    told = error(answer)
    assert (answer.status, told.code) == (500, 500)
    assert "first element is -1" in told.message
    assert "job-17" in told.message
    assert "job-17" in caplog.text
    assert send(bytes(tw.encode(tw.Request({"x": X})))).status == 200


def test_answer_that_cannot_be_sent_is_the_models_error(send: Send) -> None:
    answer = send(bytes(tw.encode(tw.Request({"x": np.full((1, 3), -2, np.float32)}))))
    told = error(answer)
    assert (answer.status, told.code) == (500, 500)
    assert "cannot be sent" in told.message


def test_empty_body(send: Send) -> None:
    answer = send(b"")
    assert answer.status == 400
    assert error(answer) == tw.Status(400, "empty body: a GraphPipe request is a flatbuffer Request message")


def test_bytes_that_are_no_message(send: Send) -> None:
    rng = np.random.default_rng(1)
    for size in (1, 4, 7, 8, 64, 1000):
        answer = send(rng.bytes(size))
        assert answer.status == 400
        assert error(answer).code == 400
    assert send(bytes(tw.encode(tw.Request({"x": X})))).status == 200


def test_truncated_message(send: Send) -> None:
    body = bytes(tw.encode(tw.Request({"x": X})))
    for size in range(1, len(body) - 24, 13):
        assert send(body[:size]).status == 400
    assert send(body).status == 200


def test_body_over_the_limit_is_refused_before_it_is_sent(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(head("POST", "/", "Content-Length: 600000000"))
        answer = raw.answer()
    assert answer.status == 413
    assert error(answer).message == "body of 600,000,000 bytes is over the limit of 100,000 (--max-body)"


def test_body_over_the_limit_on_a_connection_that_was_handed_over(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.get("/healthz")
        raw.send(head("POST", "/", "Content-Length: 600000000"))
        answer = raw.answer()
        assert raw.at_end()
    assert answer.status == 413
    assert error(answer).message == "body of 600,000,000 bytes is over the limit of 100,000 (--max-body)"


def test_chunked_body_over_the_limit(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(chunked(bytes(100_001), 100_001)[:-5])
        answer = raw.answer()
    assert answer.status == 413
    assert error(answer).message == "body of at least 100,001 bytes is over the limit of 100,000 (--max-body)"


def test_chunks_of_every_size(server: BackgroundServer) -> None:
    body = bytes(tw.encode(tw.Request({"x": X})))
    with Raw(server.url) as raw:
        for size in (1, 3, 64, 10_000):
            raw.send(chunked(body, size))
            assert raw.answer().status == 200


@pytest.mark.parametrize("first", ["", "/healthz"])
def test_expect_100_continue(server: BackgroundServer, first: str) -> None:
    body = bytes(tw.encode(tw.Request({"x": X})))
    with Raw(server.url) as raw:
        if first:
            raw.get(first)
        raw.send(post(body, "/", "Expect: 100-continue").removesuffix(body))
        assert raw.answer().status == 100
        raw.send(body)
        assert raw.answer().status == 200


def test_many_requests_at_once_on_one_connection_are_answered_in_order(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(b"".join(post(bytes(tw.encode(tw.Request({"x": X + i})))) for i in range(20)))
        for i in range(20):
            outputs = tw.decode(raw.answer().body, tw.Response).outputs
            assert np.array_equal(outputs["twice"], (X + i) * 2)


def test_half_a_request_then_gone(server: BackgroundServer) -> None:
    whole = post(bytes(tw.encode(tw.Request({"x": X}))))
    for size in (5, whole.index(b"\r\n\r\n") + 2, len(whole) - 1):
        with Raw(server.url) as raw:
            raw.send(whole[:size])
    wait_until(lambda: server.app.open_connections == 0)
    with Raw(server.url) as raw:
        assert raw.post(bytes(tw.encode(tw.Request({"x": X})))).status == 200


def test_client_that_leaves_while_the_model_runs(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    body = bytes(tw.encode(tw.Request({"x": X})))
    with BackgroundServer(gate.model) as server:
        with Raw(server.url) as raw:
            raw.send(post(body))
            gate.wait_entered()
            raw.reset()
        wait_until(lambda: server.app.open_connections == 0)
        gate.open()
        with Raw(server.url) as raw:
            assert raw.post(body).status == 200
    assert not caplog.records


def test_client_that_has_nothing_more_to_say_is_still_answered(gate: Gate) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        raw.send(post(bytes(tw.encode(tw.Request({"x": X})))))
        gate.wait_entered()
        raw.sock.shutdown(socket.SHUT_WR)
        gate.open()
        assert raw.answer().status == 200
        assert raw.at_end()


def test_an_error_of_the_server_itself_is_a_500(
    server: BackgroundServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with Raw(server.url) as raw:
        with monkeypatch.context() as patch:
            patch.setattr(server.app.service, "metadata", lambda target: 1 / 0)
            answer = raw.post(bytes(tw.encode(tw.MetadataRequest())))
        assert (answer.status, error(answer).code) == (500, 500)
        assert "ZeroDivisionError" in caplog.text
        assert raw.post(bytes(tw.encode(tw.MetadataRequest()))).status == 200


def test_busy_server(gate: Gate) -> None:
    body = bytes(tw.encode(tw.Request({"x": X})))
    with BackgroundServer(gate.model, max_queue=0) as server, Raw(server.url) as one, Raw(server.url) as two:
        one.send(post(body))
        gate.wait_entered()
        answer = two.post(body)
        assert (answer.status, error(answer).code) == (503, 503)
        gate.open()
        assert one.answer().status == 200


def test_deadline_that_passes_in_the_queue(gate: Gate) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as one, Raw(server.url) as two:
        one.send(post(bytes(tw.encode(tw.Request({"x": X})))))
        gate.wait_entered()
        two.send(post(bytes(tw.encode(tw.Request({"x": X}, deadline_ms=1)))))
        answer = two.answer()
        assert (answer.status, error(answer).code) == (504, 504)
        assert server.app.service.in_flight == 1
        gate.open()
        assert one.answer().status == 200


@pytest.mark.parametrize(
    ("path", "content_type", "claimed"),
    [
        (b"/", b"", True),
        (b"/?x=1", b"text/plain", True),
        (b"/", b"application/x-www-form-urlencoded", True),
        (b"/", b"application/octet-stream", True),
        (b"/", b"Application/JSON; charset=utf-8", False),
        (b"/", b"application/problem+json", False),
        (b"/any/path", b"", True),
        (b"/any/path", b"Application/Octet-Stream; x=y", True),
        (b"/any/path", b"application/x-flatbuffers", True),
        (b"/any/path", b"text/plain", False),
        (b"/v1/models/m:predict", b"", False),
        (b"/v2/models/m/infer", b"application/octet-stream", False),
        (b"/healthz", b"", False),
    ],
)
def test_which_requests_are_the_wires(path: bytes, content_type: bytes, claimed: bool) -> None:
    assert is_wire(b"POST", path, content_type) is claimed
    assert not is_wire(b"GET", path, content_type)


@pytest.mark.parametrize(
    ("code", "status"), [(400, 400), (404, 404), (422, 400), (500, 500), (503, 503), (504, 504), (7, 500)]
)
def test_http_status_of_an_error_code(code: int, status: int) -> None:
    assert http_status(code) == status


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_original_client(server: BackgroundServer) -> None:
    remote = pytest.importorskip("graphpipe.remote", reason="needs the original client")
    twice, sums = remote.execute(server.url, X)
    assert np.array_equal(twice, X * 2)
    assert np.array_equal(sums, X.sum(axis=1))
    with pytest.raises(Exception, match="400"):
        remote.execute(server.url, X.astype(np.float64))
