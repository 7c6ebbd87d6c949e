"""Fixtures of the clients' tests: scripted servers, and a certificate for them."""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted import LOOPS, Driven, Exchange, Script, Server, Start, answer

import tensorwire as tw


@pytest.fixture
def start() -> Iterator[Start]:
    """start(script, ..., path="", context=None) -> Server."""
    servers: list[Server] = []

    def start(*scripts: Script, path: str = "", context: ssl.SSLContext | None = None) -> Server:
        server = Server(scripts, path, context)
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()
    for server in servers:
        assert not server.errors, server.errors


@pytest.fixture
def wire(start: Start) -> Callable[..., Server]:
    """wire(model, ...) -> Server of a function from Request or MetadataRequest to its answer, over kept
    connections."""

    def wire(model: Callable[[Any], tw.Response | tw.Metadata], **options: Any) -> Server:
        def script(sock: socket.socket) -> None:
            while (request := server.read(sock))[0]:
                sock.sendall(answer(bytes(tw.encode(model(tw.decode(request[1]))))))

        server = start(*[script] * 64, **options)
        return server

    return wire


@pytest.fixture(params=["blocking", *LOOPS])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Which client and which connection a test runs with: a blocking one, or one of an event loop."""
    monkeypatch.setattr(Exchange, "loop", staticmethod(LOOPS[request.param]) if request.param in LOOPS else None)
    return str(request.param)


@pytest.fixture
def connect(kind: str) -> Iterator[Callable[..., Any]]:
    """connect(url, ...) -> Client, or an AsyncClient that is called like one."""
    with contextlib.ExitStack() as stack:

        def connect(url: str, **options: Any) -> Any:
            if kind not in LOOPS:
                return tw.Client(url, **options)
            return stack.enter_context(Driven(tw.AsyncClient(url, **options), LOOPS[kind]))

        yield connect


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A self-signed certificate and its key for 127.0.0.1, in one PEM file."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command to make a certificate")
    folder = tmp_path_factory.mktemp("tls")
    key, cert, both = folder / "key.pem", folder / "cert.pem", folder / "both.pem"
    command = [openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]
    command += ["-addext", "keyUsage=critical,digitalSignature,keyCertSign", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(command, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both
