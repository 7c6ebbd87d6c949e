"""A server behind a network that splits, delays, breaks off and stalls, in both directions, over TCP and over TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any

import numpy as np
import pytest
from certificates import Authority, client_context
from fault_proxy import Fault, FaultProxy
from leaks import nothing_left
from rawhttp import Raw, chunked, head, post
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

X = np.arange(1000, dtype=np.float32)
BODY = bytes(tw.encode(tw.Request({"x": X})))
LARGE = bytes(tw.encode(tw.Request({"x": np.zeros(8 << 20, np.uint8)})))
PAGE = head("GET", "/healthz")

# Requests of one connection, each sent when the one before it is answered.
TALKS = {
    "fast path": [post(BODY), post(BODY)],
    "handed over": [PAGE, post(BODY), PAGE],
    "chunked": [chunked(BODY, 700), post(BODY)],
}
TLS_CUTS = [0, 100, 500, 800, 1000, 2500, 6000, 9000]  # from the first message of the handshake on
THENS = ["reset", "end", "close", "stall"]


class Place:
    """A server and how to speak to it, straight or through a proxy."""

    def __init__(self, server: BackgroundServer, context: ssl.SSLContext | None) -> None:
        self.server = server
        self.context = context
        self.scheme = "http" if context is None else "https"

    def connect(self, proxy: FaultProxy | None = None) -> Raw:
        url = self.server.url if proxy is None else proxy.url.replace("http", self.scheme)
        return Raw(url, self.context)

    def talk(self, requests: list[bytes], proxy: FaultProxy | None = None) -> int:
        """How many of them are answered; those that are must be answered well."""
        answered = 0
        try:
            with self.connect(proxy) as raw:
                for request in requests:
                    raw.send(request)
                    answer = raw.answer()
                    assert answer.status == 200
                    if request == PAGE:
                        assert answer.body == b"ok\n"
                    else:
                        np.testing.assert_array_equal(tw.decode(answer.body, tw.Response).outputs["x"], X)
                    answered += 1
        except (OSError, EOFError):
            pass
        return answered

    def serves(self) -> bool:
        """A client on a good network is answered, on every way."""
        return all(self.talk(requests) == len(requests) for requests in TALKS.values())


@pytest.fixture(params=["tcp", "tls"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    options: dict[str, Any] = {}
    context: ssl.SSLContext | None = None
    if request.param == "tls":
        authority: Authority = request.getfixturevalue("authority")
        cert, key = authority.issue("server")
        options, context = {"tls_cert": cert, "tls_key": key}, client_context(authority)
    with BackgroundServer(EchoModel(), **options) as server:
        place = Place(server, context)
        assert place.serves()
        with nothing_left(server):
            yield place
            assert place.serves()


def cuts(requests: list[bytes]) -> list[int]:
    """Bytes of a talk after which something happens: in each line and body, and at the ends of both."""
    starts = [0, *accumulate(map(len, requests))]
    found = []
    for start, request in zip(starts, requests, strict=False):
        body = request.index(b"\r\n\r\n") + 4
        found += [start + at for at in {0, 1, 20, body - 1, body, (body + len(request)) // 2, len(request) - 1}]
    return sorted({cut for cut in found if cut < starts[-1]})


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("piece", [1, 7, 1000])
def test_any_split_and_delay(place: Place, requests: list[bytes], piece: int) -> None:
    fault = Fault(piece=piece, delay=0.0 if piece == 1 else 0.0001)
    with FaultProxy(place.server.url, fault, fault) as proxy:
        for _ in range(2):
            assert place.talk(requests, proxy) == len(requests)
        assert proxy.accepted == 2


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("then", THENS)
def test_requests_that_break_off(
    place: Place, requests: list[bytes], then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if then == "stall":
        monkeypatch.setattr("rawhttp.TIMEOUT", 0.2)  # seconds until the client has had enough
    with place.connect() as good:
        for cut in cuts(requests) if place.context is None else TLS_CUTS:
            with FaultProxy(place.server.url, Fault(after=cut, then=then)) as proxy:
                answered = place.talk(requests, proxy)
                assert good.post(BODY).status == 200
            if place.context is None and then != "stall":
                whole = sum(end <= cut for end in accumulate(map(len, requests)))
                assert answered == whole, f"{answered} of {whole} requests answered within {cut} bytes"
            else:
                assert answered < len(requests) or cut > sum(map(len, requests))


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
@pytest.mark.parametrize("then", THENS)
def test_answers_that_break_off(
    place: Place, requests: list[bytes], then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if then == "stall":
        monkeypatch.setattr("rawhttp.TIMEOUT", 0.2)
    with place.connect() as good:
        for cut in (0, 1, 30, 200, 700, 1500, 3000):
            with FaultProxy(place.server.url, None, Fault(after=cut, then=then)) as proxy:
                assert place.talk(requests, proxy) < len(requests)
                assert good.post(BODY).status == 200


@pytest.mark.parametrize("before", [b"", PAGE], ids=["fast path", "handed over"])
@pytest.mark.parametrize("make", [post, chunked])
@pytest.mark.parametrize("then", THENS)
def test_large_answers_that_break_off(place: Place, make: Callable[[bytes], bytes], before: bytes, then: str) -> None:
    """The server is in the middle of writing, or waits for room."""
    with FaultProxy(place.server.url, None, Fault(after=1 << 20, then=then)) as proxy, place.connect(proxy) as raw:
        raw.send(before + make(LARGE))
        came = 0
        try:
            while came < 1 << 19 and (data := raw.sock.recv(1 << 16)):
                came += len(data)
        except OSError:
            pass
        if came < 1 << 19:
            assert then in ("reset", "close")  # They take along what was on its way: the kernel drops it at an RST.
        with place.connect() as good:
            assert good.post(BODY).status == 200
            assert good.get("/healthz").status == 200


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
def test_a_client_that_has_closed_its_sending_side(place: Place, requests: list[bytes]) -> None:
    """Over TCP it gets its answers; over TLS that ends the connection."""
    with FaultProxy(place.server.url, Fault(piece=50), Fault(piece=50)) as proxy, place.connect(proxy) as raw:
        raw.send(b"".join(requests))
        if place.context is None:
            raw.sock.shutdown(1)
            for _ in requests:
                assert raw.answer().status == 200
            assert raw.at_end()
        else:
            assert raw.answer().status == 200
            raw.sock.shutdown(1)
            wait_until(lambda: place.server.app.open_connections == 0)


@pytest.mark.parametrize("requests", TALKS.values(), ids=TALKS)
def test_a_server_gives_up_who_stalls(requests: list[bytes]) -> None:
    """Before its client has: the limits of time hold behind a proxy that keeps the connection open."""
    with BackgroundServer(EchoModel(), body_timeout=0.2) as server:
        place = Place(server, None)
        assert place.serves()
        with nothing_left(server):
            for cut in (2000, 3500):
                with FaultProxy(server.url, Fault(after=cut, then="stall")) as proxy, place.connect(proxy) as raw:
                    for request in requests[: 1 + (requests[0] == PAGE)]:
                        raw.send(request)
                        status = raw.answer().status
                    assert status == 408
                    assert raw.at_end()
                    wait_until(lambda: server.app.budget.used == 0)
