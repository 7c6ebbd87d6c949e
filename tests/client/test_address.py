"""Address and request_head: from a URL and headers to the bytes that every request begins with."""

from __future__ import annotations

import pytest

from tensorwire._address import Address, request_head


@pytest.mark.parametrize(
    ("url", "target", "authority", "host", "port"),
    [
        ("http://h", "/", "h", "h", 80),
        ("https://h/", "/", "h", "h", 443),
        ("HTTP://H:9000/a/b?c=d#e", "/a/b?c=d", "h:9000", "h", 9000),
        ("http://[::1]:81/x y", "/x%20y", "[::1]:81", "::1", 81),
        ("http://h/a%2Fb", "/a%2Fb", "h", "h", 80),
        ("http://h?q=é", "/?q=%C3%A9", "h", "h", 80),
        ("http://bücher.example:1", "/", "xn--bcher-kva.example:1", "xn--bcher-kva.example", 1),
    ],
)
def test_addresses(url: str, target: str, authority: str, host: str, port: int) -> None:
    address = Address(url)
    assert (address.target, address.authority) == (target, authority)
    assert (address.host, address.port) == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "h:9000",
        "ftp://h",
        "http://",
        "http:///x",
        "unix://relative.sock",
        "unix:",
        "http://u:p@h",
        "http://h:x",
    ],
)
def test_bad_addresses(url: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - the texts differ
        Address(url)


def test_headers() -> None:
    address = Address("http://h/")
    head = request_head(address, {"Authorization": "Bearer x", "User-Agent": "me", "HOST": "other"})
    assert head == (
        b"POST / HTTP/1.1\r\nhost: other\r\nuser-agent: me\r\ncontent-type: application/octet-stream\r\n"
        b"authorization: Bearer x\r\ncontent-length: "
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("A\r\nB", "c"), ("A", "b\r\nC: d"), ("", "x"), ("A b", "c"), ("A", "\u20ac"), ("Content-Length", "3")],
)
def test_bad_headers(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"header"):
        request_head(Address("http://h/"), {name: value})
