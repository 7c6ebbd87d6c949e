"""Proxies: from the environment or given, in absolute form and by CONNECT, with the blocking client and the others."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_proxy import HttpProxy

import tensorwire as tw
from tensorwire._proxy import Proxy, find_proxy
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

Connect = Callable[..., Any]
X = np.random.default_rng(0).random(300_000)
BASIC = "Basic bWU6cEBzcw=="  # me:p@ss


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxies but those that a test sets."""
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BackgroundServer]:
    places = ["127.0.0.1:0", f"unix:{tmp_path_factory.mktemp('proxy') / 's'}"]
    with BackgroundServer(EchoModel(), listen=places) as server:
        yield server


@pytest.fixture(scope="module")
def secure(certificate: Path) -> Iterator[BackgroundServer]:
    with BackgroundServer(EchoModel(), tls_cert=certificate) as server:
        yield server


def echo(client: Any, times: int = 3) -> None:
    for _ in range(times):
        assert np.array_equal(client.infer({"x": X})["x"], X)


def test_plain_http_in_absolute_form(connect: Connect, server: BackgroundServer) -> None:
    with HttpProxy() as proxy, connect(server.url + "/a%20b?c=d", proxy=proxy.url) as client:
        echo(client)
        assert proxy.seen == [f"POST {server.url}/a%20b?c=d HTTP/1.1"] * 3
        assert proxy.accepted == 1  # kept alive


def test_https_by_connect(connect: Connect, secure: BackgroundServer, certificate: Path) -> None:
    with HttpProxy() as proxy, connect(secure.url, proxy=proxy.url, verify=certificate) as client:
        echo(client)
        assert client.metadata().name == "echo"
        assert proxy.seen == [f"CONNECT {secure.url.removeprefix('https://')} HTTP/1.1"]


def test_the_certificate_is_the_servers(connect: Connect, secure: BackgroundServer) -> None:
    with (
        HttpProxy() as proxy,
        connect(secure.url, proxy=proxy.url) as client,
        pytest.raises(tw.ConnectionLost, match="certificate"),
    ):
        client.infer({"x": X})


def asked(proxy: HttpProxy) -> int:
    """How often the proxy was asked for one of our servers: others in this process go by the environment, too."""
    return sum("127.0.0.1" in line for line in proxy.seen)


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("name", ["{}_proxy", "{}_PROXY", "all_proxy"])
def test_the_environment(
    connect: Connect,
    server: BackgroundServer,
    secure: BackgroundServer,
    certificate: Path,
    monkeypatch: pytest.MonkeyPatch,
    scheme: str,
    name: str,
) -> None:
    url = server.url if scheme == "http" else secure.url
    with HttpProxy(BASIC) as proxy:
        monkeypatch.setenv(
            name.format(scheme if "proxy" in name else scheme.upper()), f"http://me:p%40ss@{proxy.address}"
        )
        with connect(url, verify=certificate) as client:
            echo(client, 1)
        assert asked(proxy) == 1
        with connect(url, verify=certificate, proxy=False) as client:
            echo(client, 1)
        for bypass in ("127.0.0.1", "example.org, 127.0.0.1", "*", url.partition("//")[2]):
            monkeypatch.setenv("no_proxy", bypass)
            with connect(url, verify=certificate) as client:
                echo(client, 1)
        assert asked(proxy) == 1
        monkeypatch.setenv("no_proxy", "example.org,127.0.0.11")
        with connect(url, verify=certificate) as client:
            echo(client, 1)
        assert asked(proxy) == 2


def test_unix_sockets_have_no_proxy(
    connect: Connect, server: BackgroundServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "http://127.0.0.1:1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    with connect(server.app.urls[1]) as client:
        echo(client)
    with pytest.raises(ValueError, match="unix:// has no proxy"):
        connect(server.app.urls[1], proxy="http://127.0.0.1:1")


def test_credentials_go_to_the_proxy_alone(connect: Connect, secure: BackgroundServer, certificate: Path) -> None:
    with HttpProxy(BASIC) as proxy:
        with connect(secure.url, proxy=f"me:p%40ss@{proxy.address}", verify=certificate, token="t") as client:
            echo(client, 1)
        for wrong in ("", "me:wrong@", "me@"):
            with connect(secure.url, proxy=f"http://{wrong}{proxy.address}", verify=certificate) as client:
                with pytest.raises(tw.ConnectionLost, match="refused: 407 Proxy Authentication Required") as lost:
                    client.infer({"x": 1.0})
                assert "wrong" not in str(lost.value)
                assert proxy.url in str(lost.value)


def test_a_proxys_own_refusal_of_plain_http(connect: Connect, server: BackgroundServer) -> None:
    with HttpProxy(BASIC) as proxy, connect(server.url, proxy=proxy.url) as client:
        with pytest.raises(tw.RemoteError, match="Proxy Authentication Required") as refused:
            client.infer({"x": 1.0})
        assert refused.value.status == 407


@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\n\r\n", "refused: 502 Bad Gateway"),
        (b"HTTP/1.1 403\r\n\r\n", "refused: 403"),
        (b"SSH-2.0-x\r\n\r\n", "is no HTTP proxy: it answered b'SSH-2.0-x"),
        (b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", "sent more than its answer"),
        (b"HTTP/1.1 200 OK\r\nx: y", "closed"),
        (b"HTTP/1.1 200 OK\r\nx: " + b"y" * 40_000, "over 16384 bytes of a head"),
    ],
)
def test_bad_tunnels(connect: Connect, secure: BackgroundServer, answer: bytes, text: str) -> None:
    with (
        HttpProxy(answer=answer) as proxy,
        connect(secure.url, proxy=proxy.url) as client,
        pytest.raises(tw.ConnectionLost, match=text) as lost,
    ):
        client.infer({"x": 1.0})
    assert lost.value.unanswered


def test_a_proxy_that_is_not_there(connect: Connect, server: BackgroundServer) -> None:
    with HttpProxy() as proxy:
        gone = proxy.url
    with (
        connect(server.url, proxy=gone) as client,
        pytest.raises(tw.ConnectionLost, match="cannot connect through the proxy") as lost,
    ):
        client.infer({"x": 1.0})
    assert gone in str(lost.value)


@pytest.mark.parametrize("url", ["https://h:1", "socks5://h:1", "http://", "http://h:1/path", "http://h?x", "h:port"])
def test_urls_that_are_no_proxys(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"http://\[user:password@\]host:port|Port could not"):
        tw.Client("http://h/", proxy=url)
    monkeypatch.setenv("http_proxy", url)
    with pytest.raises(ValueError, match="http_proxy in the environment"):
        tw.Client("http://h/")
    assert tw.Client("http://h/", proxy=False) is not None


def test_which_proxy_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_proxy(None, "http", "h:80") is None
    monkeypatch.setenv("http_proxy", "p:1")
    monkeypatch.setenv("https_proxy", "http://[::1]:2/")
    found = find_proxy(None, "https", "h:443")
    assert found is not None
    assert (found.host, found.port, found.text) == ("::1", 2, "http://[::1]:2")
    assert found.connect_request("::2", 443).startswith(b"CONNECT [::2]:443 HTTP/1.1\r\nhost: [::2]:443\r\n")
    given = find_proxy("q", "https", "h:443")
    assert given is not None and (given.host, given.port, given.fields) == ("q", 80, {})
    assert Proxy("u:@q:3").fields == {"proxy-authorization": "Basic dTo="}
    monkeypatch.setenv("REQUEST_METHOD", "GET")  # of a CGI script, where HTTP_PROXY is a header of the request
    monkeypatch.delenv("http_proxy")
    monkeypatch.setenv("HTTP_PROXY", "p:1")
    assert find_proxy(None, "http", "h:80") is None
