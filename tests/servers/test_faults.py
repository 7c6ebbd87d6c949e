"""What a network does to a server: it goes on, and nothing of it is left over afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import math
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from leaks import nothing_left
from processes import Start, first_line
from rawhttp import Raw, chunked, head, post
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.app import make_app, new_event_loop
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

BODY = bytes(tw.encode(tw.Request({"x": np.ones(1000, np.float32)})))
SOAK = min(int(os.environ.get("TENSORWIRE_SOAK", 10_000)), 100_000)  # connections

PARTS = [
    b"",
    b"POST / HT",
    post(BODY)[:-1],
    post(BODY),
    post(BODY) * 3,
    chunked(BODY)[:-7],
    chunked(BODY),
    head("GET", "/"),
    head("GET", "/") + post(BODY)[:-1],
    b"\x16\x03\x01\x02\x00 no request",
]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[BackgroundServer]:
    """A server; at the end it must have no more connections, tasks, chunks and descriptors than at the beginning."""
    places = ["127.0.0.1:0", f"unix:{tmp_path / 's'}"]
    with BackgroundServer(EchoModel(), listen=places) as server:
        for url in server.app.urls:
            with Raw(url) as raw:
                raw.post(BODY)
                raw.get("/")
        with nothing_left(server):
            yield server


def connected(url: str) -> Raw:
    """A connection, once there is room among those that wait to be accepted."""
    while True:
        with contextlib.suppress(BlockingIOError):
            return Raw(url)


def drop(url: str, count: int) -> None:
    for i in range(count):
        raw = connected(url)
        part = PARTS[i % len(PARTS)]
        with contextlib.suppress(ConnectionError):
            raw.send(part)
        if i // len(PARTS) % 2:
            raw.reset()
        else:
            raw.sock.close()


@pytest.mark.parametrize("count", [1000, pytest.param(SOAK, marks=pytest.mark.slow)])
@pytest.mark.parametrize("place", [0, 1], ids=["tcp", "unix"])
def test_connections_opened_and_dropped(server: BackgroundServer, place: int, count: int) -> None:
    url = server.app.urls[place]
    with Raw(url) as good:
        for _ in range(count // 500):
            drop(url, 500)  # within the backlog, beyond which the system makes clients wait for seconds
            wait_until(lambda: server.app.open_connections < 200)
            assert good.post(BODY).status == 200


def test_a_thousand_slow_clients(server: BackgroundServer) -> None:
    count = 1000
    url = server.app.urls[0]
    slow = [Raw(url) for _ in range(count)]
    try:
        wholes = [PARTS[3 + 3 * (i % 2)] for i in range(count)]
        with Raw(url) as good:
            for at in range(0, 60, 7):  # a few bytes of each head, then of each body
                for raw, whole in zip(slow, wholes, strict=True):
                    raw.send(whole[at : at + 7])
                # Served at once, not after any of the slow ones, all of whom are still at it.
                served = server.app.service.requests
                for _ in range(50):
                    assert good.post(BODY).status == 200
                assert server.app.service.requests == served + 50
                assert server.app.open_connections == count + 1
        for raw, whole in zip(slow, wholes, strict=True):
            raw.send(whole[63:])
        for raw in slow:
            assert raw.answer().status == 200
    finally:
        for raw in slow:
            raw.sock.close()


@pytest.mark.parametrize("cut", [1, 20, 100, 5000])
def test_bytes_in_pieces(server: BackgroundServer, cut: int) -> None:
    """A proxy that passes on a few bytes at a time, in both directions."""
    message = post(BODY) + chunked(BODY) + head("GET", "/healthz")
    with Raw(server.app.urls[0]) as raw:
        raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for at in range(0, len(message), cut):
            raw.send(message[at : at + cut])
        for _ in range(3):
            assert raw.answer().status == 200


def test_resets_while_the_answer_is_written(server: BackgroundServer) -> None:
    large = bytes(tw.encode(tw.Request({"x": np.zeros(4 << 20, np.uint8)})))
    for count in (0, 1, 100_000):
        with Raw(server.app.urls[0]) as raw:
            raw.send(post(large))
            while count > 0:
                count -= len(raw.sock.recv(min(count, 1 << 16)))
            raw.reset()


EXHAUSTED = """
import os, resource, tensorwire
from tensorwire.servers.engines.echo import EchoModel

def on_ready(app):
    used = len(os.listdir("/proc/self/fd"))
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 20, used + 20))
    print(app.urls[0], flush=True)

tensorwire.serve(EchoModel(), listen="127.0.0.1:0", on_ready=on_ready, max_connections=10_000)
"""


def test_descriptors_exhausted_and_freed_again(start: Start) -> None:
    process = start("-c", EXHAUSTED)
    url = first_line(process)
    folder = Path(f"/proc/{process.pid}/fd")
    quiet = len(list(folder.iterdir()))
    with Raw(url) as good:
        assert good.post(BODY).status == 200
        for _ in range(3):
            crowd = [Raw(url) for _ in range(40)]
            try:
                assert good.post(BODY).status == 200
            finally:
                for raw in crowd:
                    raw.sock.close()
            wait_until(lambda: len(list(folder.iterdir())) <= quiet + 1)
            with Raw(url) as raw:
                assert raw.post(BODY).status == 200
    wait_until(lambda: len(list(folder.iterdir())) == quiet)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


LOADED = """
import sys, tensorwire

def on_ready(app):
    print(app.urls[0], flush=True)

tensorwire.serve(lambda inputs: inputs, listen=sys.argv[1], workers=int(sys.argv[2]), on_ready=on_ready)
"""


@dataclass
class Sent:
    """One request: when all of it was written, and the answer's status."""

    at: float = math.inf
    status: int = 0


def keep_asking(url: str, stop: threading.Event, sent: list[Sent]) -> None:
    """Ask, over connections of up to 20 requests each, until the server has gone."""
    while not stop.is_set():
        with contextlib.suppress(OSError, EOFError), connected(url) as raw:
            for _ in range(20):
                one = Sent()
                sent.append(one)
                raw.send(post(BODY))
                one.at = time.monotonic()
                answer = raw.answer()
                one.status = answer.status
                if answer.fields.get("connection") == "close":
                    break


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:s"])
def test_sigterm_under_load_answers_all_that_was_sent_before(start: Start, place: str, workers: str) -> None:
    process = start("-c", LOADED, place, workers)
    url = first_line(process)
    stop, each = threading.Event(), [list[Sent]() for _ in range(8)]
    threads = [threading.Thread(target=keep_asking, args=(url, stop, sent)) for sent in each]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: sum(map(len, each)) > 1000)
        stopped = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=PATIENCE)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert process.returncode == 0
    accepted = [one for sent in each for one in sent if one.at < stopped]
    assert len(accepted) > 900
    assert {one.status for one in accepted} == {200}


@pytest.mark.parametrize("page", [False, True])
@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix"])
def test_what_came_before_a_stop_is_answered(tmp_path: Path, place: str, page: bool) -> None:
    """Also what the loop has not read yet, and over connections that it has not accepted."""

    async def main() -> list[int]:
        app = make_app(EchoModel(), listen=f"unix:{tmp_path / 's'}" if place == "unix" else place)
        await app.start()
        with contextlib.ExitStack() as opened:
            known, *strangers = (opened.enter_context(Raw(app.urls[0])) for _ in range(40))
            await asyncio.to_thread(known.get, "/healthz") if page else await asyncio.to_thread(known.post, BODY)
            strangers += [opened.enter_context(Raw(app.urls[0])) for _ in range(40)]
            for raw in (known, *strangers):  # within one step of the loop
                raw.send(post(BODY))
            assert await app.stop()
            return [raw.answer().status for raw in (known, *strangers)]

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        assert runner.run(main()) == [200] * 80


def test_a_full_disk_under_the_log_stops_nothing(start: Start) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    code = (
        "import os, sys; os.dup2(os.open('/dev/full', os.O_WRONLY), 2);"
        "os.execv(sys.executable, [sys.executable, '-m', 'tensorwire', 'serve', '--echo', '--listen', '127.0.0.1:0'])"
    )
    process = start("-c", code)
    url = first_line(process).split()[2]
    with Raw(url) as raw:
        for _ in range(3):
            assert raw.post(BODY).status == 200
            assert raw.get("/").status == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
