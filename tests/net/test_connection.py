"""One connection of the server, byte by byte, on both event loops: what goes in and what must come out."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable

import numpy as np
import pytest
from bare_server import REQUEST, Echo, Peer, Scenario, post

import tensorwire as tw


def test_keep_alive(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        for _ in range(3):
            await peer.send(post())
            status, fields, body = await peer.answer()
            assert (status, fields[b"content-type"]) == (200, b"application/octet-stream")
            assert fields[b"date"].endswith(b"gmt")
            assert tw.decode(body, tw.Response).outputs["x"].sum() == np.arange(1000).sum()

    assert play(scenario).log == [200, 200, 200]


def test_heads_that_repeat_and_heads_that_change(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        small = bytes(tw.encode(tw.Request({"x": np.arange(3)})))
        plans = [(REQUEST, b"/a"), (REQUEST, b"/a"), (small, b"/a"), (small, b"/b"), (REQUEST, b"/a"), (REQUEST, b"/a")]
        for body, path in plans:
            await peer.send(post(body, path=path))
            assert (await peer.answer())[0] == 200
        seen = peer.handler.exchanges
        assert [(exchange.body_nbytes, exchange.path) for exchange in seen] == [(len(b), p) for b, p in plans]
        assert all(exchange.headers[b"content-length"] == b"%d" % exchange.body_nbytes for exchange in seen)

    play(scenario)


def test_a_bad_head_is_bad_each_time(play: Callable[[Scenario], Echo]) -> None:
    for _ in range(2):

        async def scenario(peer: Peer) -> None:
            await peer.send(post())
            assert (await peer.answer())[0] == 200
            await peer.send(b"rubbish\r\n\r\n")
            assert (await peer.error())[0] == 400

        play(scenario)


def test_every_byte_on_its_own(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        small = bytes(tw.encode(tw.Request({"x": np.arange(3)})))
        for byte in post(small) + post(small):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0)
        for _ in range(2):
            assert (await peer.answer())[0] == 200

    play(scenario)


def test_pipelined_requests_are_answered_in_order(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        bodies = [bytes(tw.encode(tw.Request({"x": np.array([i])}))) for i in range(40)]
        await peer.send(b"".join(post(body) for body in bodies))
        for i in range(40):
            assert tw.decode((await peer.answer())[2], tw.Response).outputs["x"].tolist() == [i]

    play(scenario)


def test_pipelined_requests_wait_for_the_one_in_flight(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        small = bytes(tw.encode(tw.Request({"x": np.arange(3)})))
        await peer.send(post(small) * 30)  # more than the head buffer holds: reading pauses
        for _ in range(30):
            await peer.until(lambda: peer.handler.waiting)
            assert len(peer.handler.waiting) == 1
            peer.handler.answer(peer.handler.waiting.pop())
            assert (await peer.answer())[0] == 200

    play(scenario)


def test_large_bodies_are_received_into_one_aligned_chunk(play: Callable[[Scenario], Echo]) -> None:
    x = np.random.default_rng(0).random(200_000, dtype=np.float32)

    async def scenario(peer: Peer) -> None:
        peer.handler.max_body = 1 << 30
        await peer.send(post(bytes(tw.encode(tw.Request({"x": x})))))
        _, _, body = await peer.answer()
        assert np.array_equal(tw.decode(body, tw.Response).outputs["x"], x)
        chunk = peer.handler.exchanges[0].body
        assert chunk is not None
        assert chunk.address % 64 == 0
        assert tw.decode(chunk, tw.Request).inputs["x"].ctypes.data % 64 == 0

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "status", "text"),
    [
        (b"rubbish\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"\r\n\r\n\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 1e3\r\n\r\n", 400, "not an HTTP/1.1 request"),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999999\r\n\r\n", 400, "not an HTTP/1.1"),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\n",
            400,
            "not an HTTP/1.1 request",
        ),
        (
            b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
            400,
            "not an HTTP/1.1",
        ),
        (b"POST / HTTP/1.1\r\na: " + b"x" * 4000, 431, "longer than 2048 bytes"),
        (b"POST / HTTP/1.1\r\ncontent-length: 2000000\r\n\r\n", 413, "refused"),
    ],
)
def test_refusals_are_answered_and_close(play: Callable[[Scenario], Echo], sent: bytes, status: int, text: str) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(sent)
        code, message = await peer.error()
        assert code == status
        assert text in message
        assert await peer.ended()

    assert play(scenario).log == [status]


def test_a_refusal_is_seen_by_a_peer_that_sends_on(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.writer.write(post(bytes(8_000_000)))  # over max_body, and over what the sockets' buffers take
        assert (await peer.error())[0] == 413
        await peer.writer.drain()  # the rest is discarded, not reset

    play(scenario)


def test_bad_messages_keep_the_connection(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        for body in (b"", b"abc", bytes(500), REQUEST[:-1], np.random.default_rng(1).bytes(300)):
            await peer.send(post(body))
            assert (await peer.error())[0] == 400
        await peer.send(post())
        assert (await peer.answer())[0] == 200

    play(scenario)


def test_expect_continue(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        message = post(REQUEST, b"expect: 100-continue")
        await peer.send(message[: -len(REQUEST)])
        assert await peer.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        await peer.send(REQUEST)
        assert (await peer.answer())[0] == 200

    play(scenario)


@pytest.mark.parametrize(
    ("fields", "version", "connection"),
    [
        ((b"connection: close",), b"1.1", b"close"),
        ((), b"1.0", b"close"),
        ((b"connection: keep-alive",), b"1.0", b"keep-alive"),
        ((), b"1.1", None),
    ],
)
def test_who_closes(
    play: Callable[[Scenario], Echo], fields: tuple[bytes, ...], version: bytes, connection: bytes | None
) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(post(REQUEST, *fields, version=version))
        _, found, _ = await peer.answer()
        assert found.get(b"connection") == connection
        if connection == b"close":
            assert await peer.ended()
        else:
            await peer.send(post())
            assert (await peer.answer())[0] == 200

    play(scenario)


def test_other_requests_are_handed_over_with_all_that_was_read(play: Callable[[Scenario], Echo]) -> None:
    page = b"GET /page HTTP/1.1\r\nhost: x\r\n\r\nmore"
    chunked = b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"
    upgrade = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n"
    for sent in (page, chunked, upgrade):

        async def scenario(peer: Peer, sent: bytes = sent) -> None:
            # After a small body as much as there is is read at once.
            await peer.send(post(bytes(tw.encode(tw.Request({"x": np.arange(3)})))) + sent)
            assert (await peer.answer())[0] == 200
            assert (await peer.answer())[0] == 204
            assert not peer.handler.open

        assert play(scenario).handed == [sent]


def test_an_offer_to_upgrade_is_declined(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        fields = (b"connection: upgrade, http2-settings", b"upgrade: h2c", b"http2-settings: AAMAAABk")
        for _ in range(2):
            await peer.send(post(REQUEST, *fields))
            assert (await peer.answer())[0] == 200

    play(scenario)


def test_aborting(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        await peer.until(lambda: peer.handler.waiting)
        for connection in list(peer.handler.open):
            connection.abort()
        await peer.until(lambda: not peer.handler.open)
        assert peer.handler.waiting[0].abandoned

    play(scenario)


def test_half_a_request_and_gone(play: Callable[[Scenario], Echo]) -> None:
    for part in (20, 200, len(post()) - 1):

        async def scenario(peer: Peer, part: int = part) -> None:
            await peer.send(post()[:part])
            await peer.until(lambda: peer.handler.open)
            peer.writer.close()

        assert play(scenario).log == []


def test_a_reset_abandons_the_request(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        await peer.until(lambda: peer.handler.waiting)
        sock = peer.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.writer.transport.abort()  # with no time to linger: a reset, where a plain close is a half-close
        await peer.until(lambda: not peer.handler.open)
        assert peer.handler.waiting[0].abandoned
        exchange = peer.handler.waiting.pop()
        peer.handler.answer(exchange)  # too late, and no error

    play(scenario)


def test_an_exchange_is_answered_once(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(post())
        await peer.answer()
        with pytest.raises(RuntimeError, match="answered already"):
            peer.handler.answer(peer.handler.exchanges[0])

    play(scenario)


def test_what_an_exchange_tells(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(post(REQUEST, b"X-Deadline-Ms: 5", path=b"/a/b?c=d"))
        await peer.answer()
        exchange = peer.handler.exchanges[0]
        assert (exchange.method, exchange.path, exchange.body_nbytes) == (b"POST", b"/a/b?c=d", len(REQUEST))
        assert exchange.headers[b"x-deadline-ms"] == b"5"
        assert exchange.peer == "{}:{}".format(*peer.writer.get_extra_info("sockname"))
        assert exchange.started > 0
        assert not exchange.abandoned

    play(scenario)


@pytest.mark.parametrize(
    ("sent", "seconds", "text"),
    [
        (b"POST / HT", 6, "head was not complete within 5"),
        (post()[:-10], 6, "no byte of the body came for 5 seconds"),
    ],
)
def test_stalled_requests_are_refused(play: Callable[[Scenario], Echo], sent: bytes, seconds: float, text: str) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(sent)
        await peer.until(lambda: peer.handler.open)
        await asyncio.sleep(0.05)
        (connection,) = peer.handler.open
        now = asyncio.get_running_loop().time()
        for after in (0.0, 0.1, seconds):
            connection.expire(now + after)
        code, message = await peer.error()
        assert code == 408
        assert text in message

    play(scenario)


def test_a_trickling_head_is_refused_all_the_same(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        now = asyncio.get_running_loop().time()
        for i, byte in enumerate(b"POST / HTTP"):
            await peer.send(bytes([byte]))
            await asyncio.sleep(0.01)
            for connection in list(peer.handler.open):
                connection.expire(now + i)
        assert (await peer.error())[0] == 408

    play(scenario)


def test_idle_connections_are_closed(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        await peer.send(post())
        await peer.answer()
        (connection,) = peer.handler.open
        now = asyncio.get_running_loop().time()
        connection.expire(now)
        connection.expire(now + 59)
        assert not peer.reader.at_eof()
        connection.expire(now + 61)
        assert await peer.ended()

    play(scenario)
