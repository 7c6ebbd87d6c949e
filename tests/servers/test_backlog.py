"""Answers that clients do not read: memory for them is bounded, over all connections."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Authority, client_context
from rawhttp import Raw, chunked, head, post
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer

ANSWER = 4 << 20
LIMIT = 5 << 20  # passed by the second answer, and by more than what the system takes of two
BODY = bytes(tw.encode(tw.Request({"x": np.zeros(1, np.float32)})))


def large(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"y": np.ones(ANSWER // 4, np.float32)}


def unhurried(inputs: dict[str, Any]) -> dict[str, Any]:
    """As ``large``, for a loop that counts an answer before the next request is run, on a busy machine, too."""
    time.sleep(0.05)
    return large(inputs)


def handed_over(body: bytes) -> bytes:
    """Behind a page, whose answer is to be read first."""
    return head("GET", "/healthz") + post(body)


@pytest.mark.parametrize("send", [post, chunked, handed_over])
@pytest.mark.parametrize("burst", [True, False])
def test_requests_are_refused_while_too_many_answers_wait(
    tmp_path: Path, burst: bool, send: Callable[[bytes], bytes]
) -> None:
    """``burst``: all requests are there before the first has its answer."""
    with (
        BackgroundServer(unhurried, listen=f"unix:{tmp_path}/s", memory_limit=LIMIT) as server,
        contextlib.ExitStack() as opened,
    ):
        service, backlog = server.app.service, server.app.backlog
        slow = [opened.enter_context(Raw(server.url)) for _ in range(20)]
        for raw in slow:
            raw.send(send(BODY))
            if send is handed_over:
                assert raw.answer().status == 200
            if not burst:
                assert raw.readable(PATIENCE)
        wait_until(lambda: not service.in_flight and backlog.nbytes > LIMIT)
        # One more may have been run while the last answer was on its way to its connection.
        assert backlog.nbytes <= LIMIT + 2 * ANSWER
        with Raw(server.url) as refused:
            answer = refused.post(BODY)
            assert answer.status == 503 and answer.fields["retry-after"] == "1"
            (error,) = tw.decode(answer.body, tw.Response).errors
            assert "bytes of answers wait for clients to read them" in error.message
            assert refused.get("/").status == 503
            assert refused.get("/healthz").status == refused.get("/v1/stats").status == 200
        statuses = [raw.answer().status for raw in slow]
        assert set(statuses) == {200, 503}
        assert LIMIT // ANSWER <= statuses.count(200) <= LIMIT // ANSWER + 4  # what sockets hold is not counted
        wait_until(lambda: backlog.nbytes <= LIMIT)
        with Raw(server.url) as served:
            assert served.post(BODY).status == 200


def test_who_leaves_is_counted_no_longer(tmp_path: Path) -> None:
    with BackgroundServer(large, listen=f"unix:{tmp_path}/s", memory_limit=LIMIT) as server:
        backlog = server.app.backlog
        with contextlib.ExitStack() as opened:
            for _ in range(8):
                opened.enter_context(Raw(server.url)).send(post(BODY))
            wait_until(lambda: backlog.nbytes > LIMIT)
        wait_until(lambda: backlog.nbytes <= LIMIT)
        with Raw(server.url) as served:
            assert served.post(BODY).status == 200


def test_large_answers_that_are_read_are_not_counted(tmp_path: Path) -> None:
    with BackgroundServer(large, listen=f"unix:{tmp_path}/s", memory_limit=LIMIT) as server, Raw(server.url) as raw:
        assert [raw.post(BODY).status for _ in range(20)] == [200] * 20


def many(inputs: dict[str, Any]) -> dict[str, Any]:
    return {f"y{i}": np.ones(ANSWER // 4, np.float32) for i in range(4)}


@pytest.mark.parametrize("tls", [False, True])
def test_what_a_connection_has_yet_to_take_counts(authority: Authority, tls: bool) -> None:
    """Of several tensors, and of one over TLS, only a part is given to a connection that does not take it."""
    cert, key = authority.issue("backlog")
    options: dict[str, Any] = {"tls_cert": cert, "tls_key": key} if tls else {}
    with (
        BackgroundServer(many, memory_limit=5 * ANSWER, **options) as server,
        contextlib.ExitStack() as opened,
    ):
        slow = []
        for _ in range(8):
            raw = opened.enter_context(Raw(server.url, client_context(authority) if tls else None))
            raw.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 18)
            raw.send(chunked(BODY))
            slow.append(raw)
            wait_until(lambda: not server.app.service.in_flight)
        backlog = server.app.backlog
        wait_until(lambda: backlog.nbytes > backlog.limit)
        held = backlog._held
        assert held >= 3 * ANSWER
        assert {raw.sock.recv(12) for raw in slow} == {b"HTTP/1.1 200", b"HTTP/1.1 503"}
        opened.close()
        wait_until(lambda: backlog.nbytes <= backlog.limit and not backlog._held)
