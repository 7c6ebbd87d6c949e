"""A server's life: where it listens, what happens to requests when it stops, time limits, the access log."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post
from waiting import Gate, on_loop, wait_until

import tensorwire as tw
from tensorwire.servers.address import ListenError
from tensorwire.servers.app import App, make_app
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)}, model="", id="a")))


@pytest.fixture
def gate() -> Iterator[Gate]:
    with Gate() as gate:
        yield gate


def stopping(server: BackgroundServer) -> threading.Thread:
    """Begin to stop a server; returns when it no longer listens."""
    thread = threading.Thread(target=server.stop)
    thread.start()
    wait_until(lambda: not server.app.ready)
    return thread


def refused(url: str) -> bool:
    try:
        Raw(url).sock.close()
    except OSError:
        return True
    return False


def test_several_addresses(tmp_path: Path) -> None:
    places = ["127.0.0.1:0", f"unix:{tmp_path / 'a b.sock'}", "127.0.0.1:0"]
    with BackgroundServer(EchoModel(), listen=places) as server:
        urls = server.app.urls
        assert len(set(urls)) == 3
        assert urls[0] == server.url
        assert urls[1].startswith("unix:///")
        for url in urls:
            with tw.Client(url) as client:
                assert np.array_equal(client.infer({"x": np.ones(2)})["x"], np.ones(2))
            with Raw(url) as raw:
                assert raw.get("/healthz").status == 200
                assert raw.post(BODY).status == 200
    assert not (tmp_path / "a b.sock").exists()
    assert all(refused(url) for url in urls)


def test_ipv6() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with BackgroundServer(EchoModel(), listen="[::1]:0") as server:
        assert re.fullmatch(r"http://\[::1\]:\d+", server.url)
        with Raw(server.url) as raw:
            assert raw.post(BODY).status == 200


def test_all_addresses_or_none(tmp_path: Path) -> None:
    with BackgroundServer(EchoModel()) as server:
        taken = server.url.removeprefix("http://")
        path = tmp_path / "s"
        with pytest.raises(ListenError, match=f"cannot listen on {taken}"):
            BackgroundServer(EchoModel(), listen=[f"unix:{path}", taken])
        assert not path.exists()


def test_failed_start_leaves_no_thread() -> None:
    with BackgroundServer(EchoModel()) as server:
        before = set(threading.enumerate())
        with pytest.raises(ListenError):
            BackgroundServer(lambda inputs: inputs, listen=server.url)
        wait_until(lambda: set(threading.enumerate()) <= before)


def test_callback_that_fails_stops_the_server() -> None:
    urls: list[str] = []

    def on_ready(app: App) -> None:
        urls.extend(app.urls)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        tw.serve(EchoModel(), listen="127.0.0.1:0", on_ready=on_ready)
    assert refused(urls[0])


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"listen": "nowhere"}, ValueError, "'nowhere' is not an address"),
        ({"max_body": 0}, ValueError, "max_body must be above 0"),
        ({"colour": "red"}, TypeError, "colour"),
    ],
)
def test_bad_options(options: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        BackgroundServer(EchoModel(), **options)


def test_missing_file() -> None:
    with pytest.raises(tw.TensorwireError, match="no such file"):
        BackgroundServer("no-such-model.onnx")


@pytest.mark.parametrize("send", [post, chunked])
def test_request_in_flight_is_answered_when_the_server_stops(gate: Gate, send: Callable[[bytes], bytes]) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw, Raw(server.url) as idle:
        assert idle.get("/healthz").status == 200
        raw.send(send(BODY))
        gate.wait_entered()
        thread = stopping(server)
        assert idle.at_end()
        wait_until(lambda: refused(server.url))
        gate.open()
        answer = raw.answer()
        assert (answer.status, answer.fields["connection"]) == (200, "close")
        assert raw.at_end()
        thread.join()


def test_request_whose_body_is_under_way_is_answered_when_the_server_stops() -> None:
    whole = post(BODY)
    with BackgroundServer(EchoModel()) as server, Raw(server.url) as raw:
        raw.send(whole[:-5])
        wait_until(lambda: server.app.open_connections == 1)
        with Raw(server.url) as other:
            assert other.get("/healthz").status == 200
        thread = stopping(server)
        raw.send(whole[-5:])
        assert raw.answer().status == 200
        assert raw.at_end()
        thread.join()


def test_model_that_does_not_finish_is_given_up(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    with BackgroundServer(gate.model, drain_timeout=0.1) as server, Raw(server.url) as raw:
        raw.send(post(BODY))
        gate.wait_entered()
        server.stop()
        assert raw.at_end()
    assert "unfinished after 0.1 s" in caplog.text


def test_stop_twice_and_start_again() -> None:
    server = BackgroundServer(EchoModel())
    server.stop()
    server.stop()
    with BackgroundServer(EchoModel(), listen=server.url) as again:
        assert again.url == server.url


def test_app_in_the_callers_own_loop() -> None:
    async def main() -> None:
        app = make_app(EchoModel(), listen="127.0.0.1:0")
        assert app.urls == []
        assert not app.ready
        await app.start()
        assert app.ready
        port = int(app.urls[0].rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(head("GET", "/readyz"))
        assert (await reader.readline()).startswith(b"HTTP/1.1 200")
        assert await app.stop()
        assert not app.ready
        writer.close()
        await writer.wait_closed()

    asyncio.run(main())


def test_connections_that_dawdle_are_closed() -> None:
    with (
        BackgroundServer(EchoModel(), head_timeout=5, body_timeout=5, idle_timeout=5) as server,
        Raw(server.url) as idle,
        Raw(server.url) as slow_head,
        Raw(server.url) as busy,
    ):
        assert idle.post(BODY).status == 200
        slow_head.send(b"POST / HT")
        busy.send(post(BODY)[:-1])
        wait_until(lambda: server.app.open_connections == 3)
        now = server.loop.time()
        # Twice, since a connection notes at the first visit since when it has been quiet.
        for later in (1, 100, 200):
            on_loop(server.loop, partial(server.app.expire, now + later))
        assert idle.at_end()
        for raw in (slow_head, busy):
            assert raw.answer().status == 408
            assert raw.at_end()


def test_connection_that_dawdles_after_a_hand_over_is_closed() -> None:
    with BackgroundServer(EchoModel(), head_timeout=5) as server, Raw(server.url) as raw:
        assert raw.get("/healthz").status == 200
        raw.send(b"GET /hea")
        later = server.loop.time() + 1000

        def closed() -> bool:
            on_loop(server.loop, lambda: server.app.expire(later))
            return server.app.open_connections == 0

        wait_until(closed)
        assert raw.at_end()


def test_upload_that_stands_still_is_refused() -> None:
    with BackgroundServer(EchoModel(), body_timeout=0.05) as server, Raw(server.url) as raw:
        raw.send(chunked(BODY)[:-7])
        answer = raw.answer()
        assert answer.status == 408
        assert "within 0.05 s" in tw.decode(answer.body, tw.Response).errors[0].message
        assert raw.at_end()


def test_access_log(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    caplog.set_level(logging.INFO, "tensorwire.access")
    with BackgroundServer(EchoModel(), listen=["127.0.0.1:0", f"unix:{tmp_path / 's'}"]) as server:
        tcp, unix = server.app.urls
        with Raw(tcp) as raw:
            assert raw.post(BODY, "/some/path?x=1").status == 200
            forged = bytes(tw.encode(tw.Request({"x": np.ones(1)}, model="a\nb c")))
            assert raw.post(forged).status == 404
            assert raw.post(b"").status == 400
            assert raw.get("/nothing?y").status == 404
            raw.send(chunked(BODY))
            nbytes = len(raw.answer().body)
        with Raw(unix) as raw:
            raw.post(BODY)
            raw.get("/healthz")
    lines = [record.getMessage() for record in caplog.records]
    patterns = [
        rf"127\.0\.0\.1:\d+ POST /some/path\?x=1 model=- 200 in={len(BODY)} out={nbytes} [\d.]+ms",
        rf"127\.0\.0\.1:\d+ POST / model=a\\nb\\x20c 404 in={len(forged)} out=\d+ [\d.]+ms",
        r"127\.0\.0\.1:\d+ POST / model=- 400 in=0 out=\d+ [\d.]+ms",
        r"127\.0\.0\.1:\d+ GET /nothing\?y model=- 404 in=0 out=\d+ [\d.]+ms",
        rf"127\.0\.0\.1:\d+ POST / model=- 200 in={len(BODY)} out={nbytes} [\d.]+ms",
        rf"unix POST / model=- 200 in={len(BODY)} out={nbytes} [\d.]+ms",
        r"unix GET /healthz model=- 200 in=0 out=3 [\d.]+ms",
    ]
    assert len(lines) == len(patterns)
    for line, pattern in zip(lines, patterns, strict=True):
        assert re.fullmatch(pattern, line)


def test_access_log_of_a_client_that_left(gate: Gate, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "tensorwire.access")
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        raw.send(post(BODY))
        gate.wait_entered()
        raw.reset()
        wait_until(lambda: server.app.open_connections == 0)
        gate.open()
        wait_until(lambda: caplog.records)
    assert " 499 " in caplog.records[0].getMessage()


def test_every_thread_and_connection_is_gone_afterwards() -> None:
    before = set(threading.enumerate())
    with BackgroundServer(lambda inputs: inputs) as server, Raw(server.url) as raw:
        raw.post(BODY)
        raw.get("/")
    wait_until(lambda: set(threading.enumerate()) <= before)
    assert server.app.open_connections == 0
