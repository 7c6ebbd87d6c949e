"""Connection: bytes in, bytes out, against a server whose every byte is scripted."""

from __future__ import annotations

import socket

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
    read_request,
    replies,
    sends,
    until_closed,
)

import tensorwire as tw
from tensorwire import _http

pytestmark = pytest.mark.usefixtures("kind")


@pytest.mark.parametrize(
    ("data", "status", "reason", "body"),
    [
        (answer(b"abcd"), 200, "OK", b"abcd"),
        (answer(b""), 200, "OK", b""),
        (answer(b"no", "404 Not Found"), 404, "Not Found", b"no"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, "No Content", b""),
        (b"HTTP/1.1 200\r\ncontent-length:1\r\n\r\nx", 200, "", b"x"),
        (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", 200, "OK", b"abcde"),
        (CHUNKED + b"3;ext=1\r\nabc\r\n0\r\nTrailer: x\r\n\r\n", 200, "OK", b"abc"),
        (CHUNKED + b"0\r\n\r\n", 200, "OK", b""),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"abcd"), 200, "OK", b"abcd"),
        (b"HTTP/1.1 102 Processing\r\nA: b\r\n\r\n" * 3 + CHUNKED + b"1\r\na\r\n0\r\n\r\n", 200, "OK", b"a"),
    ],
)
def test_an_answer_is_the_same_however_it_is_split(
    start: Start, data: bytes, status: int, reason: str, body: bytes
) -> None:
    def slowly(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        read_request(sock)
        for byte in data:
            sock.send(bytes([byte]))
        until_closed(sock)

    for server in (play(start, data), start(slowly)):
        with Exchange(server) as send:
            got = send()
        assert (got.status, got.reason, bytes(got.body)) == (status, reason, body)
        assert isinstance(got.body, tw.Chunk)


def test_a_body_without_a_length_ends_with_the_connection(start: Start) -> None:
    server = start(sends(b"HTTP/1.1 200 OK\r\n\r\nabc"), sends(b"HTTP/1.0 200 OK\r\n\r\n" + bytes(300_000)))
    with Exchange(server) as send:
        assert bytes(send().body) == b"abc"
        assert bytes(send().body) == bytes(300_000)


@pytest.mark.parametrize("nbytes", [16 * 1024, 3_000_001])
def test_large_bodies_of_either_kind_arrive_whole(start: Start, nbytes: int) -> None:
    body = np.random.default_rng(0).bytes(nbytes)
    pieces = [body[i : i + 70_000] for i in range(0, nbytes, 70_000)]
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    server = play(start, answer(body), CHUNKED + chunks + b"0\r\n\r\n", answer(body))
    with Exchange(server) as send:
        for _ in range(3):
            assert bytes(send().body) == body


def test_the_request_is_what_the_frame_says(start: Start) -> None:
    server = play(start, answer(b""), answer(b""))
    with Exchange(server) as send:
        send(SMALL)
        send(LARGE)
    (head, body), (_, large) = server.requests
    port = server.url.rpartition(":")[2]
    assert head.decode().split("\r\n") == [
        "POST / HTTP/1.1",
        f"host: 127.0.0.1:{port}",
        f"user-agent: tensorwire/{tw.__version__}",
        "content-type: application/octet-stream",
        f"content-length: {SMALL.nbytes}",
    ]
    assert body == bytes(SMALL)
    assert large == bytes(LARGE)


def test_more_buffers_than_one_sendmsg_takes(start: Start) -> None:
    arrays = [np.full(600 + i, i % 251, np.uint8) for i in range(1500)]
    frame = tw.encode(tw.Request(arrays))
    assert len(frame.buffers) > 1024
    server = play(start, answer(b"ok"))
    with Exchange(server) as send:
        send(frame)
    assert server.requests[0][1] == bytes(frame)


def test_one_connection_serves_many_requests(start: Start) -> None:
    server = play(start, *[answer(b"%d" % i) for i in range(5)])
    with Exchange(server) as send:
        assert [bytes(send().body) for _ in range(5)] == [b"0", b"1", b"2", b"3", b"4"]
    assert server.accepted == 1


@pytest.mark.parametrize(
    "last",
    [
        answer(b"a", "200 OK", "Connection: close"),
        b"HTTP/1.0 200 OK\r\nContent-Length: 1\r\n\r\na",
        answer(b"a") + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b"1\r\na\r\n0\r\n\r\n" + b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n",
        CHUNKED + b"1\r\na\r\n0\r\n\r\n" + b"garbage",
        b"HTTP/1.1 204 No Content\r\n\r\nextra",
    ],
)
def test_a_connection_that_cannot_be_kept_is_not(start: Start, last: bytes) -> None:
    holder: list[Server] = []
    holder.append(start(replies(holder, last), replies(holder, answer(b"b"))))
    with Exchange(holder[0]) as send:
        assert bytes(send().body) in (b"a", b"")
        assert bytes(send().body) == b"b"
    assert holder[0].accepted == 2


def test_a_connection_closed_while_idle_is_reopened(start: Start) -> None:
    server = start(sends(answer(b"a")), sends(answer(b"b")), sends(answer(b"c")))
    with Exchange(server) as send:
        assert [bytes(send().body) for _ in range(3)] == [b"a", b"b", b"c"]
    assert server.accepted == 3


def closing(sock: socket.socket) -> None:
    """Answer one request; close without a byte when the second has come, as if both had crossed."""
    read_request(sock)
    sock.sendall(answer(b"a"))
    read_request(sock)


def test_a_close_that_crosses_a_request_is_retried_once(start: Start) -> None:
    server = start(closing, closing)
    with Exchange(server) as send:
        assert bytes(send().body) == b"a"
        assert bytes(send().body) == b"a"
    assert server.accepted == 2


def test_the_second_attempt_is_the_last(start: Start) -> None:
    def deaf(sock: socket.socket) -> None:
        read_request(sock)

    server = start(closing, deaf, deaf)
    with Exchange(server) as send:
        send()
        with pytest.raises(tw.ConnectionLost, match=r"closed by the server: .* nothing received"):
            send()
    assert server.accepted == 2


def test_a_late_close_is_not_retried(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_STALE_SECONDS", 0.0)
    server = start(closing, closing)
    with Exchange(server) as send:
        send()
        with pytest.raises(tw.ConnectionLost, match="closed by the server"):
            send()
    assert server.accepted == 1


HEADS = [
    answer(b"one"),
    answer(b"two"),  # the head once more
    answer(b"four"),  # nearly
    answer(b"no", "503 Busy", "Retry-After: 7"),
    answer(b"no", "503 Busy", "Retry-After: 7"),
    CHUNKED + b"3\r\nabc\r\n0\r\n\r\n",
    CHUNKED + b"2\r\nde\r\n0\r\n\r\n",
    answer(b""),
    answer(b""),
    b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b"six"),
    answer(b"six"),
    answer(bytes(20_000)),
    answer(bytes(20_000)),
    answer(b"one"),
]


@pytest.mark.parametrize("piece", [1, 50, 1 << 20])
def test_a_head_that_is_like_the_last_one(start: Start, piece: int) -> None:
    """It is not parsed again, and means the same."""

    def script(sock: socket.socket) -> None:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for data in HEADS:
            read_request(sock)
            for at in range(0, len(data), max(piece, len(data) // 300)):
                sock.sendall(data[at : at + max(piece, len(data) // 300)])
        until_closed(sock)

    with Exchange(start(script)) as send:
        found = [send() for _ in HEADS]
    bodies = [
        b"one",
        b"two",
        b"four",
        b"no",
        b"no",
        b"abc",
        b"de",
        b"",
        b"",
        b"six",
        b"six",
        *[bytes(20_000)] * 2,
        b"one",
    ]
    assert [bytes(one.body) for one in found] == bodies
    assert [(one.status, one.reason) for one in found] == [
        (503, "Busy") if body == b"no" else (200, "OK") for body in bodies
    ]
    assert [one.retry_after for one in found] == [b"7" if body == b"no" else b"" for body in bodies]


def test_a_head_like_the_last_one_may_be_the_last(start: Start) -> None:
    """Of a connection that the server closes: it says so in each of its heads."""
    closing = answer(b"bye", "200 OK", "Connection: close")
    server = start(sends(closing), sends(closing))
    with Exchange(server) as send:
        assert [bytes(send().body) for _ in range(2)] == [b"bye", b"bye"]
    assert server.accepted == 2
