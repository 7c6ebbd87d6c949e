"""Connection: how an exchange fails, and what the error says."""

from __future__ import annotations

import re
import socket
import ssl
from pathlib import Path

import numpy as np
import pytest
from scripted import (
    CHUNKED,
    LARGE,
    SMALL,
    Exchange,
    Server,
    Start,
    answer,
    play,
    read_head,
    replies,
    resets,
    sends,
    until_closed,
)

import tensorwire as tw
from tensorwire._address import Address
from tensorwire._http import Connection
from tensorwire._limit import TimeLimit

pytestmark = pytest.mark.usefixtures("kind")


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", r"(\d+) of \1 bytes of the request sent, nothing received"),
        (b"HTTP/1.1 200 O", "14 bytes of the answer's head received, its end not"),
        (answer(b"x" * 1000)[:-900], "100 of 1000 bytes of the answer's body received"),
        (CHUNKED + b"5\r\nabc", "3 bytes of the answer's body received, its end not"),
        (CHUNKED + b"3\r\nabc\r\n", "3 bytes of the answer's body received, its end not"),
    ],
)
def test_an_end_inside_an_answer_says_how_far_it_came(start: Start, data: bytes, text: str) -> None:
    server = start(sends(data))
    with Exchange(server) as send, pytest.raises(tw.ConnectionLost, match=text) as caught:
        send()
    assert str(caught.value).startswith(f"{server.url}: closed by the server: ")
    assert isinstance(caught.value, ConnectionError)


def test_a_reset_inside_a_body(start: Start) -> None:
    server = start(resets(answer(b"x" * 1000)[:-900]))
    with (
        Exchange(server) as send,
        pytest.raises(tw.ConnectionLost, match=r"answer|nothing received"),
    ):
        send()


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "bytes of the request sent, nothing received"),
        (b"HTTP/1.1 200 O", "14 bytes of the answer's head received"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "0 bytes of the answer's head received"),
        (answer(b"x" * 1000)[:-900], "100 of 1000 bytes of the answer's body received"),
        (CHUNKED + b"5\r\nabc", "3 bytes of the answer's body received"),
    ],
)
def test_a_stall_is_a_deadline_exceeded(start: Start, data: bytes, text: str) -> None:
    server = play(start, data)
    with Exchange(server) as send, pytest.raises(tw.DeadlineExceeded, match=text) as caught:
        send(stall=0.1)
    assert "no progress for 0.1 s" in str(caught.value)
    assert isinstance(caught.value, TimeoutError)


def test_a_server_that_stops_reading_is_a_deadline_exceeded(start: Start) -> None:
    def deaf(sock: socket.socket) -> None:
        read_head(sock)
        closed.recv(1)

    closed, tell = socket.socketpair()
    with closed, tell:
        server = start(deaf)
        with Exchange(server) as send, pytest.raises(tw.DeadlineExceeded, match="nothing received") as caught:
            send(LARGE, stall=0.1)
        tell.send(b"x")
        server.join()
    sent, total = re.findall(r"(\d+) of (\d+) bytes", str(caught.value))[0]
    assert 0 < int(sent) < int(total)


def test_the_limit_of_time_may_change_between_exchanges(start: Start) -> None:
    server = play(start, answer(b"a"), answer(b"b"), b"")
    with Exchange(server) as send:
        assert bytes(send(stall=None).body) == b"a"
        assert bytes(send(stall=5).body) == b"b"
        with pytest.raises(tw.DeadlineExceeded):
            send(stall=0.05)


REFUSAL = answer(b"at most 1 MiB", "413 Content Too Large")


@pytest.mark.parametrize("closes", [True, False])
@pytest.mark.parametrize("before", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_early_refusal_ends_a_large_request(start: Start, closes: bool, before: bytes) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(before + REFUSAL)
        if not closes:
            until_told(sock)

    def until_told(sock: socket.socket) -> None:
        told.recv(1)

    told, tell = socket.socketpair()
    with told, tell:
        server = start(refuse)
        with Exchange(server) as send:
            got = send(LARGE)
        tell.send(b"x")
        server.join()
    assert (got.status, bytes(got.body)) == (413, b"at most 1 MiB")


def test_a_large_request_goes_on_after_an_interim_response(start: Start) -> None:
    def script(sock: socket.socket) -> None:
        head, body = read_head(sock)
        sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        length = int(head.rpartition(b":")[2])
        while len(body) < length:
            body += sock.recv(1 << 20)
        sock.sendall(answer(b"%d" % len(body)))
        until_closed(sock)

    server = start(script)
    frame = tw.encode(tw.Request(np.zeros(12_000_000, np.uint8)))
    with Exchange(server) as send:
        assert int(bytes(send(frame).body)) == frame.nbytes


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"SSH-2.0-OpenSSH_9.6\r\n", "not an HTTP answer: b'SSH-2"),
        (b"HTTP/1.1 two hundred\r\n\r\n", "not an HTTP/1.1 answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n", "not an HTTP/1.1 answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -4\r\n\r\n", "not an HTTP/1.1 answer: "),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 answer: "),
        (b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n", "not an HTTP/1.1 answer: "),
        (CHUNKED + b"zz\r\n", "bad answer body: "),
        (answer(b"abc", "200 OK", "Content-Encoding: gzip"), "content-encoding is b'gzip'"),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 40, "32 interim responses"),
    ],
)
def test_what_is_not_http_is_a_decode_error(start: Start, data: bytes, text: str) -> None:
    server = play(start, data)
    with Exchange(server) as send, pytest.raises(tw.DecodeError, match=text) as caught:
        send()
    assert str(caught.value).startswith(server.url)


@pytest.mark.parametrize(
    "data",
    [
        answer(bytes(101)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n",
        CHUNKED + b"64\r\n" + bytes(100) + b"\r\n1\r\na\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(101),
    ],
)
def test_a_body_over_the_limit_is_refused(start: Start, data: bytes) -> None:
    server = play(start, data)
    with Exchange(server, max_nbytes=100) as send, pytest.raises(tw.LimitError, match="max_nbytes is 100"):
        send()


def test_a_head_over_the_limit_is_refused(start: Start) -> None:
    server = play(start, b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 4000)
    with Exchange(server) as send, pytest.raises(tw.LimitError, match="head is over 16384 bytes"):
        send()


def test_a_connection_works_again_after_an_error(start: Start) -> None:
    holder: list[Server] = []
    holder.append(start(replies(holder, b"HTTP/1.1 nonsense\r\n\r\n"), replies(holder, answer(b"b"))))
    with Exchange(holder[0]) as send:
        with pytest.raises(tw.DecodeError):
            send()
        assert bytes(send().body) == b"b"


def test_nobody_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    connection = Connection(Address(f"http://127.0.0.1:{port}"), b"", connect_timeout=5.0)
    with pytest.raises(tw.ConnectionLost, match="cannot connect: Connection refused"):
        connection.exchange(SMALL, TimeLimit(1.0))


def test_a_unix_socket(start: Start, tmp_path: Path) -> None:
    body = bytes(100_000)
    server = play(start, answer(body), answer(b"b"), path=str(tmp_path / "a b.sock"))
    server.url = server.url.replace(" ", "%20")
    with Exchange(server) as send:
        assert bytes(send(LARGE).body) == body
        assert bytes(send().body) == b"b"
    assert server.requests[0][0].startswith(b"POST / HTTP/1.1\r\nhost: localhost\r\n")
    assert server.requests[0][1] == bytes(LARGE)


def test_no_unix_socket(tmp_path: Path) -> None:
    connection = Connection(Address(f"unix://{tmp_path}/none.sock"), b"", connect_timeout=5.0)
    with pytest.raises(tw.ConnectionLost, match=r"none.sock: cannot connect: No such file"):
        connection.exchange(SMALL, TimeLimit(1.0))


def tls_context(certificate: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_tls(start: Start, certificate: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    body = bytes(3_000_000)
    data = [answer(body), CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", answer(b"c"), b"HTTP/1.1 200 O"]
    server = play(start, *data, context=tls_context(certificate))
    frame = tw.encode(tw.Request(np.ones(5_000_000, np.uint8)))
    with Exchange(server) as send:
        assert bytes(send(frame).body) == body
        assert bytes(send().body) == b"abc"
        assert bytes(send().body) == b"c"
        with pytest.raises(tw.DeadlineExceeded, match="14 bytes of the answer's head"):
            send(stall=0.1)
    assert server.requests[0][1] == bytes(frame)


def test_tls_to_a_stranger(start: Start, certificate: Path) -> None:
    def script(sock: socket.socket) -> None:
        raise AssertionError("the handshake must not succeed")

    server = start(script, context=tls_context(certificate))
    with Exchange(server) as send, pytest.raises(tw.ConnectionLost, match=r"cannot connect: .*CERTIFICATE"):
        send()
    server.join()
    assert [isinstance(error, ssl.SSLError) for error in server.errors] == [True]
    server.errors.clear()
