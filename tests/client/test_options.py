"""The clients' options: credentials, TLS, limits of time, retries."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scripted import Start, answer, play, read_head, read_request, resets, sends, until_closed

import tensorwire as tw
from tensorwire._refusal import retry_seconds

Connect = Callable[..., Any]
OK = answer(bytes(tw.encode(tw.Response({"y": np.ones(2)}))))
METADATA = answer(bytes(tw.encode(tw.Metadata("m"))))
BUSY = answer(b"later", "503 Service Unavailable", "Retry-After: 0")


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"auth": ("me", "pa:ss")}, b"authorization: Basic bWU6cGE6c3M="),
        ({"auth": ("mé", "")}, b"authorization: Basic bcOpOg=="),
        ({"token": "secret"}, b"authorization: Bearer secret"),
        ({"headers": {"Authorization": "X y"}}, b"authorization: X y"),
    ],
)
def test_credentials_are_sent_and_not_shown(connect: Connect, start: Start, options: Any, field: bytes) -> None:
    server = play(start, OK)
    with connect(server.url, **options) as client:
        client.infer({"x": 1.0})
        assert repr(client).partition("(")[2] == f"{server.url!r})"
    assert field in server.requests[0][0].split(b"\r\n")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"auth": ("a", "b"), "token": "c"}, "give one of"),
        ({"token": "c", "headers": {"AUTHORIZATION": "d"}}, "give one of"),
        ({"auth": ("a:b", "c")}, "no colon"),
        ({"token": "geheim\r\nx: y"}, "^token is not one line of ASCII characters$"),
        ({"token": ""}, "token is not one line"),
        ({"timeout": 0}, "timeout must be over 0 seconds"),
        ({"connect_timeout": 0.0}, "connect_timeout must be over 0 seconds"),
        ({"total_timeout": -1}, "total_timeout must be over 0 seconds"),
        ({"retries": -1}, "retries must be 0 or more"),
    ],
)
def test_bad_options(options: Any, text: str) -> None:
    for kind in (tw.Client, tw.AsyncClient):
        with pytest.raises(ValueError, match=text):
            kind("http://h", **options)


def context(certificate: Path, client_ca: bool = False) -> ssl.SSLContext:
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(certificate)
    if client_ca:
        made.verify_mode = ssl.CERT_REQUIRED
        made.load_verify_locations(certificate)
    return made


def test_verify(connect: Connect, start: Start, certificate: Path) -> None:
    for verify in (certificate, str(certificate), False):
        server = play(start, OK, context=context(certificate))
        with connect(server.url, verify=verify) as client:
            assert client.infer({"x": np.zeros(1_000_000)})["y"].sum() == 2


def test_a_client_certificate(connect: Connect, start: Start, certificate: Path) -> None:
    for cert in (certificate, (certificate, str(certificate))):
        server = play(start, OK, context=context(certificate, client_ca=True))
        with connect(server.url, verify=certificate, cert=cert) as client:
            assert client.infer({"x": 1.0})["y"].sum() == 2


def test_the_whole_call_is_bounded(connect: Connect, start: Start) -> None:
    def trickle(sock: socket.socket) -> None:
        read_request(sock)
        try:
            for byte in OK * 100:
                sock.send(bytes([byte]))
                time.sleep(0.01)
        except OSError:
            pass

    server = start(trickle)
    with (
        connect(server.url, total_timeout=0.2) as client,
        pytest.raises(tw.DeadlineExceeded, match=r"no answer within 0\.2 s: \d+ bytes of the answer's head"),
    ):
        client.infer({"x": 1.0})


def test_infer_is_sent_again_when_asked_to(connect: Connect, start: Start) -> None:
    server = start(resets(b""), sends(BUSY), sends(b""), sends(OK))
    with connect(server.url, retries=3) as client:
        assert client.infer({"x": 1.0})["y"].sum() == 2
    assert server.accepted == 4


def test_retry_after_as_a_date(connect: Connect, start: Start) -> None:
    past = answer(b"", "503 Service Unavailable", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT")
    soon = formatdate(time.time() + 20, usegmt=True)
    server = start(sends(past), sends(OK), sends(answer(b"", "503 Service Unavailable", f"Retry-After: {soon}")))
    with connect(server.url, retries=1) as client:
        assert client.infer({"x": 1.0})["y"].sum() == 2
    with connect(server.url) as client, pytest.raises(tw.RemoteError) as refused:
        client.infer({"x": 1.0})
    assert refused.value.retry_after is not None
    assert 0 < refused.value.retry_after <= 20
    assert server.accepted == 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"", None),
        (b"0", 0.0),
        (b"17", 17.0),
        (b"-1", None),
        (b"1e3", None),
        (b"soon", None),
        (b"Wed, 21 Foo 2015 07:28:00 GMT", None),
        (b"\xff\x00", None),
        (b"Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        (b"Wednesday, 21-Oct-15 07:28:00 GMT", 0.0),  # the obsolete forms that RFC 9110 wants understood
        (b"Wed Oct 21 07:28:00 2015", 0.0),
    ],
)
def test_what_retry_after_says(value: bytes, seconds: float | None) -> None:
    assert retry_seconds(value) == seconds


def test_infer_is_not_sent_again_otherwise(connect: Connect, start: Start) -> None:
    server = start(sends(b""), sends(BUSY), sends(OK))
    with connect(server.url) as client:
        with pytest.raises(tw.ConnectionLost) as lost:
            client.infer({"x": 1.0})
        assert lost.value.unanswered
        with pytest.raises(tw.RemoteError, match="later") as refused:
            client.infer({"x": 1.0})
        assert refused.value.retry_after == 0.0
    assert server.accepted == 2


def test_metadata_is_sent_again_in_any_case(connect: Connect, start: Start) -> None:
    server = start(sends(b""), sends(BUSY), sends(METADATA))
    with connect(server.url) as client:
        assert client.metadata().name == "m"


@pytest.mark.parametrize(
    "data",
    [
        OK[:10],
        answer(b"", "500 Internal Server Error", "Retry-After: 0"),
        answer(b"", "503 Service Unavailable"),
        answer(b"", "503 Service Unavailable", "Retry-After: 3600"),
        answer(b"", "503 Service Unavailable", "Retry-After: Fri, 31 Dec 2199 23:59:59 GMT"),
        answer(b"", "503 Service Unavailable", "Retry-After: soon"),
    ],
)
def test_what_is_not_safe_or_not_soon_is_not_sent_again(connect: Connect, start: Start, data: bytes) -> None:
    server = start(sends(data), sends(OK))
    with connect(server.url, retries=5) as client, pytest.raises((tw.ConnectionLost, tw.RemoteError)):
        client.infer({"x": 1.0})
    assert server.accepted == 1


def test_retries_end(connect: Connect) -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with connect(url, retries=1) as client, pytest.raises(tw.ConnectionLost, match="cannot connect") as lost:
        client.infer({"x": 1.0})
    assert lost.value.unanswered
    with (
        connect(url, retries=9, total_timeout=0.1) as client,
        # The time may be over within a pause, or within another attempt.
        pytest.raises((tw.ConnectionLost, tw.DeadlineExceeded), match=r"cannot connect|no connection within the limit"),
    ):
        client.infer({"x": 1.0})


def test_any_object_with_dlpack_is_an_input(connect: Connect, start: Start) -> None:
    class Tensor:
        """What a framework's tensor is to us."""

        def __init__(self, array: Any) -> None:
            self.array = array

        def __dlpack__(self, **options: Any) -> Any:
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self) -> Any:
            return self.array.__dlpack_device__()

    x = np.arange(1000.0)
    server = play(start, OK)
    with connect(server.url) as client:
        client.infer({"x": Tensor(x)})
    np.testing.assert_array_equal(tw.decode(server.requests[0][1], tw.Request).inputs["x"], x)


def test_deadline_and_total_timeout_bound_together(connect: Connect, start: Start) -> None:
    server = start(until_closed)
    with (
        connect(server.url, total_timeout=0.05) as client,
        pytest.raises(tw.DeadlineExceeded, match=r"within 0\.05 s"),
    ):
        client.infer({"x": 1.0}, deadline_ms=5000)


def test_an_early_refusal_over_tls(connect: Connect, start: Start, certificate: Path) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer(b"at most 1 MiB", "413 Content Too Large"))
        until_closed(sock)  # To close at once would reset the connection, which TLS does not survive.

    server = start(refuse, context=context(certificate))
    with (
        connect(server.url, verify=certificate) as client,
        pytest.raises(tw.RemoteError, match="at most 1 MiB"),
    ):
        client.infer({"x": np.zeros(50_000_000, np.uint8)})
