"""Everything on the port that is not the wire: metadata as JSON, health, errors, changing over."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post, send_in_two

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.fronts.render import metadata_json

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))
HEALTH = ["/healthz", "/readyz", "/control/is_alive", "/control/is_ready", "/control/client_count"]
PAGES = ["/", *HEALTH, "/v1/models", "/v1/stats"]


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    model = FunctionModel(
        lambda inputs: {"y": inputs["x"]},
        name="pages",
        description="same",
        inputs=[tw.TensorSpec("x", np.float32, (-1,), "numbers")],
        outputs=[tw.TensorSpec("y")],
    )
    with BackgroundServer(model) as server:
        yield server


@pytest.fixture
def raw(server: BackgroundServer) -> Iterator[Raw]:
    with Raw(server.url) as raw:
        yield raw


def test_root_is_the_metadata(raw: Raw) -> None:
    answer = raw.get("/")
    assert answer.status == 200
    assert answer.fields["content-type"] == "application/json"
    assert answer.fields["server"] == f"tensorwire/{tw.__version__}"
    assert "date" in answer.fields
    inputs = [{"name": "x", "description": "numbers", "shape": [-1], "type": "float32"}]
    outputs = [{"name": "y", "description": "", "shape": [], "type": None}]
    assert json.loads(answer.body) == {
        "name": "pages",
        "version": "1",
        "server": f"tensorwire/{tw.__version__}",
        "description": "same",
        "inputs": inputs,
        "outputs": outputs,
        "signatures": {"serving_default": {"inputs": inputs, "outputs": outputs}},
    }


@pytest.mark.parametrize(
    ("dtype", "name"),
    [
        (np.float32, "float32"),
        (bool, "bool"),
        (object, "string"),
        (ml_dtypes.bfloat16, "bfloat16"),
        (None, None),
    ],
)
def test_names_of_dtypes(dtype: Any, name: str | None) -> None:
    values = metadata_json(tw.Metadata("m", inputs=[tw.TensorSpec("x", dtype)]))
    assert values["inputs"][0]["type"] == name


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/control/is_alive", "/control/is_ready"])
def test_health(raw: Raw, path: str) -> None:
    answer = raw.get(path)
    assert (answer.status, answer.body) == (200, b"ok\n")


def test_not_ready(server: BackgroundServer, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(server.app.service), "ready", False)
    assert raw.get("/readyz").status == 503
    assert raw.get("/control/is_ready").status == 503
    assert raw.get("/healthz").status == 200


def test_client_count(server: BackgroundServer) -> None:
    with (
        BackgroundServer(server.app.service.models[0]) as other,
        Raw(other.url) as one,
        Raw(other.url) as two,
    ):
        assert two.post(BODY).status == 200
        assert one.get("/control/client_count").body == b"2\n"


@pytest.mark.parametrize("path", PAGES)
def test_head_is_get_without_the_body(raw: Raw, path: str) -> None:
    whole, short = raw.get(path), raw.get(path, "HEAD")
    assert short.status == 200
    assert short.fields["content-length"] == whole.fields["content-length"]
    assert raw.get(path).status == 200


def test_nothing_there(raw: Raw) -> None:
    answer = raw.get("/no/such?x=1")
    assert answer.status == 404
    told = json.loads(answer.body)
    assert told["error"] == "nothing at /no/such"
    assert told["pages"] == PAGES
    assert "flatbuffer" in told["post"]
    assert raw.get("/no", "POST", "Content-Type: application/json", "Content-Length: 0").status == 404


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("PUT", "/", ["GET", "HEAD", "POST"]),
        ("DELETE", "/healthz", ["GET", "HEAD"]),
        ("POST", "/healthz", ["GET", "HEAD"]),
        ("PATCH", "/readyz", ["GET", "HEAD"]),
    ],
)
def test_other_methods(raw: Raw, method: str, path: str, allowed: list[str]) -> None:
    answer = raw.get(path, method, "Content-Length: 0")
    assert answer.status == 405
    assert sorted(answer.fields["allow"].split(", ")) == allowed
    assert json.loads(answer.body)["allowed"] == allowed
    assert raw.get("/healthz").status == 200


@pytest.mark.parametrize(
    ("path", "allowed"),
    [("/", "GET, HEAD, OPTIONS, POST"), ("/readyz", "GET, HEAD, OPTIONS"), ("*", "GET, HEAD, OPTIONS, POST")],
)
def test_options(raw: Raw, path: str, allowed: str) -> None:
    answer = raw.get(path, "OPTIONS")
    assert (answer.status, answer.body) == (200, b"")
    assert ", ".join(sorted(answer.fields["allow"].split(", "))) == allowed
    assert raw.get("/healthz").status == 200


def test_json_is_not_taken(raw: Raw) -> None:
    answer = raw.post(b'{"x": 1}', "/", "Content-Type: application/json")
    assert answer.status == 415
    assert "flatbuffer" in json.loads(answer.body)["error"]


def test_get_then_post_then_get_on_one_connection(raw: Raw) -> None:
    for _ in range(3):
        assert raw.get("/healthz").status == 200
        answer = raw.post(BODY)
        assert answer.status == 200
        assert np.array_equal(tw.decode(answer.body, tw.Response).outputs["y"], np.ones(3, np.float32))


def test_post_then_get_on_one_connection(raw: Raw) -> None:
    assert raw.post(BODY).status == 200
    assert raw.get("/").status == 200
    assert raw.post(BODY).status == 200


def test_everything_sent_at_once(raw: Raw) -> None:
    raw.send(post(BODY) + head("GET", "/") + chunked(BODY) + post(BODY) + head("GET", "/healthz"))
    types = [raw.answer().fields["content-type"].partition(";")[0] for _ in range(5)]
    wire = "application/octet-stream"
    assert types == [wire, "application/json", wire, wire, "text/plain"]


def test_large_body_after_a_hand_over(raw: Raw) -> None:
    x = np.random.default_rng(2).random(1_000_000).astype(np.float32)
    body = bytes(tw.encode(tw.Request({"x": x})))
    raw.get("/healthz")
    for sent in (post(body), chunked(body, 70_000)):
        raw.send(sent)
        assert np.array_equal(tw.decode(raw.answer().body, tw.Response).outputs["y"], x)


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("first", ["fast", "handed over"])
def test_offer_of_another_protocol_is_ignored(raw: Raw, protocol: str, first: str) -> None:
    if first == "handed over":
        raw.get("/healthz")
    offer = (
        "Connection: Upgrade, HTTP2-Settings",
        f"upgrade: {protocol}",
        "HTTP2-Settings: AAMAAABkAAQAAP__",
    )
    for _ in range(2):
        answer = raw.post(BODY, "/", *offer)
        assert answer.status == 200
        assert np.array_equal(tw.decode(answer.body, tw.Response).outputs["y"], np.ones(3, np.float32))
        assert raw.get("/healthz", "GET", *offer).status == 200


def test_body_that_looks_like_an_offer_is_left_as_it_is(raw: Raw) -> None:
    # Answered before its body comes, so that the next bytes could pass for a head.
    body = b"x: y\r\nupgrade: h2c\r\nContent-Length: 9\r\n\r\n1"
    raw.send(head("POST", "/no", "Content-Type: application/json", f"Content-Length: {len(body)}"))
    assert raw.answer().status == 404
    raw.send(body + head("GET", "/healthz"))
    assert raw.answer().body == b"ok\n"
    assert raw.post(BODY).status == 200


@pytest.mark.parametrize(
    "fields",
    [
        ("Connection: upgrade", "Upgrade: a", "upgrade: b", "X-Upgrade: c"),
        ("Connection: upgrade", "UPGRADE:"),
        ("Connection: close, upgrade", "Upgrade: h2c"),
        ("Upgrade: h2c",),
    ],
)
def test_an_offer_takes_nothing_else_along(raw: Raw, fields: tuple[str, ...]) -> None:
    for first in (head("GET", "/healthz"), b""):
        raw.send(first + head("GET", "/no/such%20place?x=1", *fields))
        if first:
            assert raw.answer().body == b"ok\n"
        answer = raw.answer()
        assert (answer.status, json.loads(answer.body)["error"]) == (404, "nothing at /no/such place")
        if "close" in fields[0]:
            assert answer.fields["connection"] == "close"
            assert raw.at_end()
            return


def test_a_star_in_a_path(server: BackgroundServer, raw: Raw) -> None:
    raw.get("/healthz")
    request = head("GET", "/a*b*")
    with Raw(server.url) as ping:
        for at in range(1, len(request)):
            send_in_two(raw, ping, request, at)
            assert json.loads(raw.answer().body)["error"] == "nothing at /a*b*"


def test_connection_close_is_respected(server: BackgroundServer) -> None:
    for request in (head("GET", "/", "Connection: close"), post(BODY, "/", "Connection: close")):
        with Raw(server.url) as raw:
            raw.send(request)
            assert raw.answer().fields["connection"] == "close"
            assert raw.at_end()


def test_http_1_0(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(b"GET /healthz HTTP/1.0\r\n\r\n")
        assert raw.answer().body == b"ok\n"
        assert raw.at_end()


def test_what_is_no_http_is_refused(server: BackgroundServer) -> None:
    for garbage in (b"hello\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n"):
        with Raw(server.url) as raw:
            raw.send(garbage)
            assert raw.answer().status == 400
            assert raw.at_end()


def test_head_that_is_too_long(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000)
        assert raw.answer().status == 431
