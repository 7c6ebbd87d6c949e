"""TLS: the wire and the pages over it, certificates of clients, and certificates that are replaced."""

from __future__ import annotations

import asyncio
import errno
import functools
import logging
import signal
import socket
import ssl
from asyncio import run_coroutine_threadsafe
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvloop
from certificates import Authority, client_context
from processes import Start, first_line
from rawhttp import Raw, chunked, post
from waiting import PATIENCE, Gate, wait_until

import tensorwire as tw
from tensorwire.servers.acceptor import TlsAcceptor
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.tls import TlsError, TlsFiles

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))


@pytest.fixture(scope="module")
def server(authority: Authority) -> Iterator[BackgroundServer]:
    cert, key = authority.issue("server")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key) as server:
        yield server


def subject(raw: Raw) -> str:
    """The common name in the certificate that the server has shown."""
    assert isinstance(raw.sock, ssl.SSLSocket)
    certificate = raw.sock.getpeercert()
    assert certificate is not None
    return str(certificate["subject"][0][0][1])  # type: ignore[index, misc]


def test_wire_and_pages(server: BackgroundServer, authority: Authority) -> None:
    assert server.url.startswith("https://127.0.0.1:")
    with Raw(server.url, client_context(authority)) as raw:
        assert isinstance(raw.sock, ssl.SSLSocket)
        assert raw.sock.version() in ("TLSv1.2", "TLSv1.3")
        for _ in range(2):
            assert raw.post(BODY).status == 200
        assert raw.get("/healthz").status == 200  # handed over
        assert raw.post(BODY).status == 200
        raw.send(chunked(BODY))
        assert raw.answer().status == 200


def test_large_bodies(server: BackgroundServer, authority: Authority) -> None:
    x = np.random.default_rng(0).random(1_000_000, np.float32)
    body = bytes(tw.encode(tw.Request({"x": x})))
    with Raw(server.url, client_context(authority)) as raw:
        for _ in range(2):
            raw.send(post(body))
            answer = raw.answer()
            assert np.array_equal(tw.decode(answer.body, tw.Response).outputs["x"], x)
            raw.get("/healthz")


def test_our_client(server: BackgroundServer, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    with tw.Client(server.url) as client, pytest.raises(tw.ConnectionLost, match="certificate"):
        client.infer({"x": np.ones(2)})
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
    with tw.Client(server.url) as client:
        assert np.array_equal(client.infer({"x": np.ones(2)})["x"], np.ones(2))


def test_plain_text_is_no_request(server: BackgroundServer, authority: Authority) -> None:
    with Raw(server.url) as raw:
        raw.send(post(BODY))
        while raw.sock.recv(1000):
            pass
    with Raw(server.url, client_context(authority)) as raw:
        assert raw.post(BODY).status == 200


def test_refusals_over_tls(authority: Authority) -> None:
    cert, key = authority.issue("strict")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, max_body=100) as server:
        with Raw(server.url, client_context(authority)) as raw:
            assert raw.post(BODY).status == 413
        with Raw(server.url, client_context(authority)) as raw:
            raw.send(b"rubbish\r\n\r\n")
            assert raw.answer().status == 400


def test_unix_sockets_stay_plain(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("both")
    places = ["127.0.0.1:0", f"unix:{tmp_path / 's'}"]
    with BackgroundServer(EchoModel(), listen=places, tls_cert=cert, tls_key=key) as server:
        tcp, unix = server.app.urls
        assert (tcp[:8], unix[:8]) == ("https://", "unix:///")
        with Raw(unix) as raw:
            assert raw.post(BODY).status == 200


def test_only_clients_with_our_certificate(authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("mutual")
    stranger = Authority(tmp_path / "other", "stranger")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, tls_client_ca=authority.root) as server:
        with Raw(server.url, client_context(authority, authority.issue("client"))) as raw:
            assert raw.post(BODY).status == 200
            assert raw.get("/").status == 200
        for own in (None, stranger.issue("impostor")):
            # In TLS 1.3 the client has agreed before the server has looked at its certificate.
            with pytest.raises((OSError, EOFError)), Raw(server.url, client_context(authority, own)) as raw:
                raw.post(BODY)
        assert server.app.service.requests == 1


def test_reload(authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"

    def install(name: str) -> None:
        for source, target in zip(authority.issue(name), (cert, key), strict=True):
            target.write_bytes(source.read_bytes())

    install("before")
    context = client_context(authority)
    with Gate() as gate, BackgroundServer(gate.model, tls_cert=cert, tls_key=key) as server:

        def reload() -> bool:
            return run_coroutine_threadsafe(server.app.reload(), server.loop).result(PATIENCE)

        with Raw(server.url, context) as old:
            assert subject(old) == "before"
            old.send(post(BODY))
            gate.wait_entered()
            install("after")
            assert reload()
            with Raw(server.url, context) as new:
                assert subject(new) == "after"
                assert new.get("/healthz").status == 200
            gate.open()
            assert old.answer().status == 200
            key.write_text("no key")
            assert not reload()
            assert "the certificates stay as they are" in caplog.text
            with Raw(server.url, context) as new:
                assert subject(new) == "after"
            assert old.post(BODY).status == 200


def test_reload_without_tls() -> None:
    with BackgroundServer(EchoModel()) as server:
        assert run_coroutine_threadsafe(server.app.reload(), server.loop).result(PATIENCE) is False


@pytest.mark.parametrize("workers", ["1", "2"])
def test_hangup_reads_the_certificates_again(start: Start, authority: Authority, tmp_path: Path, workers: str) -> None:
    cert, key = authority.issue(f"first{workers}")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    process = start(
        *("-m", "tensorwire", "serve", "--echo", "--listen", "127.0.0.1:0", "--workers", workers),
        *("--tls-cert", str(both)),
    )
    url = first_line(process).split()[2]
    assert url.startswith("https://")
    context = client_context(authority)
    with Raw(url, context) as raw:
        assert raw.post(BODY).status == 200
        cert, key = authority.issue(f"second{workers}")
        both.write_bytes(cert.read_bytes() + key.read_bytes())
        process.send_signal(signal.SIGHUP)

        def names() -> set[str]:
            seen = set()
            for _ in range(6):
                with Raw(url, context) as new:
                    seen.add(subject(new))
            return seen

        wait_until(lambda: names() == {f"second{workers}"})
        assert raw.post(BODY).status == 200
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert 1 <= err.count("certificates read again") <= int(workers)  # one that came later has read them by itself


def test_handshake_that_does_not_come_is_given_up(authority: Authority) -> None:
    cert, key = authority.issue("slow")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, head_timeout=0.1) as server:
        host, port = server.url.removeprefix("https://").split(":")
        with socket.create_connection((host, int(port)), PATIENCE) as sock:
            assert sock.recv(1) == b""


def test_bad_files(authority: Authority, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    cert, key = authority.issue("good")
    other = authority.issue("other")[1]
    text = tmp_path / "text"
    text.write_text("no certificate")
    for files, words in (
        (TlsFiles(tmp_path / "none", key), "cannot read .*none: No such file"),
        (TlsFiles(text, key), "no certificate with its key"),
        (TlsFiles(cert, other), "key values mismatch"),
        (TlsFiles(cert, key, text), "text: no certificates"),
        (TlsFiles(cert, tmp_path), "cannot read .*: Is a directory"),
    ):
        with pytest.raises(TlsError, match=words):
            files.context()
    with pytest.raises(ValueError, match="of no use without tls_cert"):
        BackgroundServer(EchoModel(), tls_key=key)


def test_handshakes_count_as_connections(authority: Authority) -> None:
    cert, key = authority.issue("crowded")
    context = client_context(authority)
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, max_connections=2) as server:
        silent = [Raw(server.url) for _ in range(2)]
        wait_until(lambda: server.app.handshakes == 2)
        with Raw(server.url, context) as raw:
            answer = raw.answer()
            assert (answer.status, answer.fields["retry-after"]) == (503, "1")
            assert b"2 connections are open" in answer.body
            assert raw.at_end()
        for raw in silent:
            raw.sock.close()
        wait_until(lambda: server.app.handshakes == 0)
        with Raw(server.url, context) as raw:
            assert raw.post(BODY).status == 200


def test_a_flood_of_handshakes_is_dropped(authority: Authority) -> None:
    cert, key = authority.issue("flooded")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key, max_connections=2, head_timeout=1) as server:
        flood = [Raw(server.url) for _ in range(200)]
        # 2, and as many as may be told that they are too many; nothing is sent to those beyond.
        wait_until(lambda: server.app.handshakes == 130)
        assert [raw.sock.recv(1) for raw in flood[130:]] == [b""] * 70
        wait_until(lambda: server.app.handshakes == 0)  # --head-timeout
        with Raw(server.url, client_context(authority)) as raw:
            assert raw.post(BODY).status == 200
        for raw in flood:
            raw.sock.close()


def test_descriptors_exhausted_and_freed_again(authority: Authority) -> None:
    class Exhausted(socket.socket):
        refused = 0

        def accept(self) -> tuple[socket.socket, Any]:
            if self.refused < 2:
                self.refused += 1
                raise OSError(errno.EMFILE, "Too many open files")
            return super().accept()

    context = TlsFiles(*authority.issue("exhausted")).context()

    async def serve(listener: Exhausted) -> bytes:
        ended: list[asyncio.Protocol] = []
        acceptor = TlsAcceptor(listener, lambda: context, Hello, ended.append, 5)
        peer = functools.partial(asyncio.to_thread, greeting, listener.getsockname(), client_context(authority))
        said = await peer()
        assert len(ended) == 1
        acceptor.close()
        return said

    for run in (asyncio.run, uvloop.run):
        with Exhausted() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            assert run(serve(listener)) == b"hello"
            assert listener.refused == 2


class Hello(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(b"hello")  # type: ignore[attr-defined]
        transport.close()


def greeting(address: tuple[str, int], context: ssl.SSLContext) -> bytes:
    with Raw(f"http://{address[0]}:{address[1]}", context) as raw:
        return raw.sock.recv(100)
