"""How connections over TLS end: no peer is waited for, and no byte of an answer is lost."""

from __future__ import annotations

import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Authority, client_context
from processes import Start, first_line
from rawhttp import Raw, post
from waiting import PATIENCE, Gate, on_loop, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.fronts import tls_connection

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))


@pytest.fixture(scope="module")
def files(authority: Authority) -> dict[str, Path]:
    return dict(zip(("tls_cert", "tls_key"), authority.issue("server"), strict=True))


def idle(url: str, authority: Authority, page: bool) -> Raw:
    """A connection that has had its answer, and neither sends nor reads from now on."""
    raw = Raw(url, client_context(authority))
    assert (raw.get("/healthz") if page else raw.post(BODY)).status == 200
    return raw


@pytest.mark.parametrize("page", [False, True])
def test_sigterm_does_not_wait_for_idle_peers(
    start: Start, authority: Authority, files: dict[str, Path], page: bool
) -> None:
    process = start(
        *("-m", "tensorwire", "serve", "--echo", "--listen", "127.0.0.1:0", "--drain-timeout", "600"),
        *("--tls-cert", str(files["tls_cert"]), "--tls-key", str(files["tls_key"])),
    )
    with idle(first_line(process).split()[2], authority, page):
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


@pytest.mark.parametrize("page", [False, True])
def test_idle_connections_are_closed(authority: Authority, files: dict[str, Path], page: bool) -> None:
    with (
        BackgroundServer(EchoModel(), idle_timeout=1, **files) as server,
        idle(server.url, authority, page) as raw,
    ):
        wait_until(lambda: server.app.open_connections == 0)
        assert raw.at_end()


LARGE = np.random.default_rng(0).integers(0, 256, 30_000_000, np.uint8)


def large(inputs: object) -> dict[str, Any]:
    return {"y": LARGE}


def receive(raw: Raw, size: int) -> bytes:
    """As many bytes, or fewer at the end."""
    data = bytearray(size)
    view, filled = memoryview(data), 0
    while filled < size and (count := raw.sock.recv_into(view[filled:])):
        filled += count
    return bytes(view[:filled])


@pytest.mark.parametrize("how", ["close", "keep-alive", "page"])
def test_an_answer_that_is_read_slowly_is_whole(
    authority: Authority, files: dict[str, Path], monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(tls_connection, "_GRACE", 0.0)
    with BackgroundServer(large, **files) as server:
        with Raw(server.url, client_context(authority)) as raw:
            if how == "page":
                raw.get("/healthz")
            raw.send(post(BODY, "/", f"Connection: {'close' if how == 'close' else 'keep-alive'}"))
            begins = receive(raw, 8_000_000)  # so that the loop takes the rest from the server
            now = time.monotonic()
            for later in (0, 0, 10):  # over the time that a peer has to read a refusal
                on_loop(server.loop, partial(server.app.expire, now + later))
            if how != "close":
                on_loop(server.loop, server.app._drain_connections)
            answer = begins + receive(raw, 2 * LARGE.nbytes)
            assert answer.endswith(LARGE.tobytes())
            assert answer.count(b"HTTP/1.1 200") == 1
        wait_until(lambda: server.app.open_connections == 0)


def test_an_answer_that_is_not_read_is_given_up(authority: Authority, files: dict[str, Path]) -> None:
    with (
        BackgroundServer(large, body_timeout=20, idle_timeout=1000, **files) as server,
        Raw(server.url, client_context(authority)) as raw,
    ):
        raw.send(post(BODY))
        receive(raw, 8_000_000)
        now = time.monotonic() + 100
        for later in (0, 0, 0, 30):
            on_loop(server.loop, partial(server.app.expire, now + later))
        wait_until(lambda: server.app.open_connections == 0)


def test_a_client_that_leaves_takes_its_request_along(
    authority: Authority, files: dict[str, Path], caplog: pytest.LogCaptureFixture
) -> None:
    with Gate() as gate, BackgroundServer(gate.model, **files) as server:
        with Raw(server.url, client_context(authority)) as raw:
            raw.send(post(BODY))
            gate.wait_entered()
            raw.sock.unwrap()  # type: ignore[attr-defined]
        wait_until(lambda: server.app.open_connections == 0)
        gate.open()
    assert "eof_received" not in caplog.text
