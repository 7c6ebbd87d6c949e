"""What both clients say when they are given the wrong scheme, port or file: what is wrong, and what to do."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Authority
from scripted import Start

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

Call = Callable[..., None]


def blocking(url: str, **options: Any) -> None:
    with tw.Client(url, **options) as client:
        client.infer({"x": np.ones(3)})


def asynchronous(url: str, **options: Any) -> None:
    async def main() -> None:
        async with tw.AsyncClient(url, **options) as client:
            await client.infer({"x": np.ones(3)})

    asyncio.run(main())


@pytest.fixture(params=[blocking, asynchronous])
def call(request: pytest.FixtureRequest) -> Call:
    made: Call = request.param
    return made


def test_http_where_tls_is_spoken(mutual: str, call: Call) -> None:
    with pytest.raises(tw.ConnectionLost, match="if the server speaks TLS, begin its address with https://"):
        call(mutual.replace("https:", "http:"))


def test_tls_where_http_is_spoken(call: Call) -> None:
    with (
        BackgroundServer(EchoModel()) as server,
        pytest.raises(tw.ConnectionLost, match=r"does not speak TLS on port .*: begin its address with http://"),
    ):
        call(server.url.replace("http:", "https:"))


def test_tls_where_nobody_answers(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"https://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(tw.DeadlineExceeded, match="does not speak TLS, begin its address with http://"):
            call(url, connect_timeout=0.1)


def test_no_certificate_of_its_own(mutual: str, authority: Authority, call: Call) -> None:
    with pytest.raises(tw.ConnectionLost, match="a certificate of the client's: give cert="):
        call(mutual, verify=authority.root)
    call(mutual, verify=authority.root, cert=authority.issue("client"))


def test_a_certificate_that_is_not_taken(mutual: str, authority: Authority, tmp_path: Path, call: Call) -> None:
    stranger = Authority(tmp_path / "other", "stranger")
    with pytest.raises(tw.ConnectionLost, match="may not take the certificate given as cert="):
        call(mutual, verify=authority.root, cert=stranger.issue("impostor"))


def test_files_that_cannot_be_used(mutual: str, authority: Authority, tmp_path: Path, call: Call) -> None:
    none, text = tmp_path / "none.pem", tmp_path / "text.pem"
    text.write_text("no certificate")
    for options, words in (
        ({"verify": none}, f"verify={none} cannot be used: No such file"),
        ({"verify": text}, f"verify={text} cannot be used: "),
        ({"verify": authority.root, "cert": none}, f"cert={none} cannot be used: No such file"),
        ({"verify": authority.root, "cert": (text, none)}, f"cert={text}, {none} cannot be used: "),
    ):
        with pytest.raises(tw.ConnectionLost) as lost:
            call(mutual, **options)
        assert words in str(lost.value)


def test_nobody_listening(call: Call) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    with pytest.raises(tw.ConnectionLost, match=r"cannot connect: Connection refused$"):
        call(f"http://127.0.0.1:{port}")


def test_an_alert_of_tls_is_named(start: Start, call: Call) -> None:
    def script(sock: socket.socket) -> None:
        sock.recv(1 << 16)
        sock.sendall(b"\x15\x03\x01\x00\x02\x02\x46")

    with pytest.raises(tw.DecodeError, match=r"not an HTTP answer: .*that is TLS: begin .* with https://"):
        call(start(script).url)
