"""Requests that two servers could read in two ways are refused with 400, and nothing after them is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rawhttp import Raw, post

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))
START = b"POST / HTTP/1.1\r\nHost: test\r\n"

HEADS = {
    "two lengths": b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
    "the same length twice": b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "a list of lengths": b"Content-Length: 3, 3\r\n\r\nabc",
    "a signed length": b"Content-Length: +3\r\n\r\nabc",
    "a negative length": b"Content-Length: -3\r\n\r\nabc",
    "a hexadecimal length": b"Content-Length: 0x3\r\n\r\nabc",
    "an empty length": b"Content-Length:\r\n\r\n",
    "a length of 80 bits": b"Content-Length: 999999999999999999999999\r\n\r\n",
    "length, then chunked": b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked, then length": b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
    "chunked twice": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunked and not last": b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "a folded field": b"X: 1\r\n Content-Length: 3\r\n\r\nabc",
    "a folded length": b"Content-Length:\r\n 3\r\n\r\nabc",
    "space before the colon": b"Content-Length : 3\r\n\r\nabc",
    "a line that ends in LF": b"X: 1\nContent-Length: 3\r\n\r\nabc",
    "a line that ends in CR": b"X: 1\rContent-Length: 3\r\n\r\nabc",
    "a NUL": b"X: 1\x002\r\nContent-Length: 3\r\n\r\nabc",
}
CHUNKS = {
    "hexadecimal with a prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
    "negative": b"-3\r\nabc\r\n0\r\n\r\n",
    "empty": b"\r\nabc\r\n0\r\n\r\n",
    "not a number": b"z\r\nabc\r\n0\r\n\r\n",
    "followed by space": b"3 \r\nabc\r\n0\r\n\r\n",
    "over 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "too small": b"2\r\nabc\r\n0\r\n\r\n",
    "a line that ends in LF": b"3\nabc\r\n0\r\n\r\n",
}


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with BackgroundServer(EchoModel(), max_head=4096) as server:
        yield server.url


def is_refused(raw: Raw, sent: bytes) -> None:
    """The answer is 400 and the last: the request smuggled in behind is never looked at."""
    raw.send(sent + b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n")
    assert raw.answer().status == 400
    assert raw.at_end()


@pytest.mark.parametrize("before", ["a wire request", "a page"])
@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
def test_ambiguous_heads(url: str, head: bytes, before: str) -> None:
    with Raw(url) as raw:
        if before == "a page":
            assert raw.get("/healthz").status == 200
        else:
            assert raw.post(BODY).status == 200
        is_refused(raw, START + head)


@pytest.mark.parametrize("before", ["nothing", "a page"])
@pytest.mark.parametrize("body", CHUNKS.values(), ids=CHUNKS)
def test_bad_chunk_sizes(url: str, body: bytes, before: str) -> None:
    with Raw(url) as raw:
        if before == "a page":
            assert raw.get("/healthz").status == 200
        is_refused(raw, START + b"Transfer-Encoding: chunked\r\n\r\n" + body)


@pytest.mark.parametrize(
    "head",
    [b"X: " + b"x" * 100_000, b"X: 1\r\n" * 20_000, b"X: " + b"x" * 5000 + b"\r\n\r\n"],
    ids=["one field", "many fields", "complete"],
)
def test_huge_heads(url: str, head: bytes) -> None:
    with Raw(url) as raw:
        raw.send(START + head[:5000])
        answer = raw.answer()
        assert answer.status == 431
        assert "longer than 4096 bytes" in tw.decode(answer.body, tw.Response).errors[0].message
        assert raw.at_end()
    with Raw(url) as raw:
        assert raw.get("/healthz").status == 200
        try:
            for at in range(0, len(head), 1000):
                raw.send(START * (at == 0) + head[at : at + 1000])
        except ConnectionError:
            pass
        else:
            assert raw.answer().status == 400
            assert raw.at_end()
    with Raw(url) as raw:
        assert raw.post(BODY).status == 200


def test_many_requests_at_once_are_no_huge_head(url: str) -> None:
    with Raw(url) as raw:
        assert raw.get("/healthz").status == 200
        page = b"GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n"
        raw.send(page * 200)
        for _ in range(200):
            assert raw.answer().status == 200
        raw.send(post(BODY))
        assert raw.answer().status == 200
