"""Requests that two servers could read in two ways are refused with 400, and nothing after them is believed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post, send_in_two
from waiting import wait_until

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


SMUGGLED = b"GET /control/client_count HTTP/1.1\r\nHost: smuggled\r\n\r\n"
PAGE = head("GET", "/healthz")
OFFER = b"POST /readyz HTTP/1.1\r\nHost: test\r\nConnection: upgrade\r\nUpgrade: h2c\r\n"
# Bodies behind an offer of another protocol, for which a parser might take what follows the head.
OFFERS = {
    "length": OFFER + b"Content-Length: %d\r\n\r\n%b" % (len(SMUGGLED), SMUGGLED),
    "chunked": OFFER + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED),
}
ENDLESS = {
    "field of a trailer": b"0\r\nX: ",
    "name in a trailer": b"0\r\nX",
    "extension of a chunk": b"3;",
    "extension of the last chunk": b"abc\r\n0;",
}


@pytest.fixture(scope="module")
def server() -> Iterator[BackgroundServer]:
    with BackgroundServer(EchoModel(), max_head=4096) as server:
        yield server


@pytest.fixture
def url(server: BackgroundServer) -> str:
    return server.url


@pytest.fixture
def ping(url: str) -> Iterator[Raw]:
    with Raw(url) as ping:
        yield ping


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


@pytest.mark.parametrize("before", [b"", PAGE], ids=["alone", "pipelined"])
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "handed over"])
@pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)
def test_body_behind_an_offer_of_another_protocol(url: str, ping: Raw, offer: bytes, kept: bool, before: bytes) -> None:
    """Split at every byte: the body is the offer's own, never a request."""
    sent = before + offer + PAGE
    raw = Raw(url)
    try:
        for at in range(1, len(sent)):
            if not kept:
                raw.sock.close()
                raw = Raw(url)
            elif at == 1:
                raw.get("/healthz")
            send_in_two(raw, ping, sent, at)
            if before:
                assert raw.answer().body == b"ok\n", at
            assert raw.answer().status == 405, at
            assert raw.answer().body == b"ok\n", at
        assert raw.get("/").status == 200
    finally:
        raw.sock.close()


@pytest.mark.parametrize("protocol", ["h2c", "websocket"])
@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "handed over"])
def test_no_byte_of_a_body_is_lost_behind_an_offer(url: str, ping: Raw, protocol: str, kept: bool) -> None:
    sent = post(BODY, "/", "Connection: Upgrade, HTTP2-Settings", f"Upgrade: {protocol}", "HTTP2-Settings: AAMAAABk")
    with Raw(url) as raw:
        if kept:
            raw.get("/healthz")
        for at in range(1, len(sent)):
            send_in_two(raw, ping, sent, at)
            answer = raw.answer()
            assert answer.status == 200, at
            assert np.array_equal(tw.decode(answer.body, tw.Response).outputs["x"], np.ones(3, np.float32))


def test_many_offers_at_once(url: str) -> None:
    with Raw(url) as raw:
        raw.send((OFFERS["length"] + OFFERS["chunked"]) * 100 + PAGE)
        for _ in range(200):
            assert raw.answer().status == 405
        assert raw.answer().body == b"ok\n"


@pytest.mark.parametrize("kept", [False, True], ids=["fresh", "handed over"])
def test_tunnels_are_refused(url: str, kept: bool) -> None:
    with Raw(url) as raw:
        if kept:
            raw.get("/healthz")
        is_refused(raw, b"CONNECT test:80 HTTP/1.1\r\nHost: test:80\r\nContent-Length: 0\r\n\r\n")


@pytest.mark.parametrize("field", [b"X-Deadline-Ms: never", b"Connection: upgrade\r\nUpgrade: h2c"])
def test_trailers_say_nothing(url: str, field: bytes) -> None:
    with Raw(url) as raw:
        for _ in range(2):
            raw.send(chunked(BODY)[:-2] + field + b"\r\n\r\n" + PAGE)
            assert raw.answer().status == 200
            assert raw.answer().body == b"ok\n"


@pytest.mark.parametrize("before", ["nothing", "a page"])
@pytest.mark.parametrize("start", ENDLESS.values(), ids=ENDLESS)
def test_what_does_not_end_is_not_kept(server: BackgroundServer, start: bytes, before: str) -> None:
    with Raw(server.url) as raw:
        if before == "a page":
            raw.get("/healthz")
        raw.send(START + b"Transfer-Encoding: chunked\r\n\r\n" + b"3\r\n" * start.startswith(b"abc") + start)
        for _ in range(16 << 4):
            try:
                raw.send(bytes(b"x" * (1 << 16)))
            except ConnectionError:
                break
        else:
            pytest.fail("16 MiB were taken")
    wait_until(lambda: server.app.open_connections == 0)
    assert server.app.budget.used == 0


@pytest.mark.parametrize("trailer", [b"X: " + b"x" * 5000 + b"\r\n", b"X: 1\r\n" * 2000], ids=["long", "many"])
def test_huge_trailers(url: str, trailer: bytes) -> None:
    with Raw(url) as raw:
        is_refused(raw, chunked(BODY)[:-2] + trailer + b"\r\n")


def test_answers_come_before_the_refusal_of_what_follows(url: str) -> None:
    """Otherwise the refusal would be taken for the answer to a request that came before it, or for part of that."""
    body = bytes(tw.encode(tw.Request({"x": np.arange(8 << 20, dtype=np.uint8)})))
    for first, size in ((PAGE, 3), (chunked(body, 1 << 20), len(body))):
        for bad in (b"rubbish\r\n\r\n", START + b"Content-Length: x\r\n\r\n", START + HEADS["length, then chunked"]):
            with Raw(url) as raw:
                raw.send(first + bad + PAGE)
                answer = raw.answer()
                assert (answer.status, answer.fields.get("connection")) == (200, "close")
                assert len(answer.body) >= size
                assert raw.at_end()


def test_requests_beyond_a_thousand_at_once_are_left_to_another_connection(url: str) -> None:
    with Raw(url) as raw:
        raw.send(PAGE * 4000)
        answers = 1
        while raw.answer().fields.get("connection") != "close":
            answers += 1
        assert answers >= 1000
        assert raw.at_end()
