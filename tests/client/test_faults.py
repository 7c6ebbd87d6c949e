"""What networks do to a client: each fault is the right error, or none, and nothing is left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from fault_proxy import Fault, FaultProxy
from scripted import LOOPS, Server, Start, answer, read_head
from waiting import wait_until

import tensorwire as tw

Wire = Callable[..., Server]
Connect = Callable[..., Any]

BIG = np.arange(2_000_000, dtype=np.float32)
SMALL = np.arange(10.0)


def echo(request: Any) -> tw.Response:
    return tw.Response(dict(request.inputs))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0  # noqa: PTH112, PTH208


@pytest.fixture(autouse=True)
def _nothing_is_left(kind: str) -> Iterator[None]:
    """Chunks, threads and descriptors are back to what they were. Before ``start``, so torn down after it."""
    if kind in LOOPS:
        LOOPS[kind]().close()  # The first one opens descriptors for all that come after it.
    gc.collect()
    before = tw.pool_stats()["live_chunks"], tw.pool_stats()["holds"], threading.active_count(), descriptors()
    yield
    gc.collect()
    wait_until(
        lambda: (
            (tw.pool_stats()["live_chunks"], tw.pool_stats()["holds"], threading.active_count(), descriptors())
            <= before
        )
    )


def ask(client: Any, x: Any, out: Any = None) -> None:
    np.testing.assert_array_equal(client.infer({"x": x}, out=out)["x"], x)


@pytest.mark.parametrize("x", [SMALL, BIG], ids=["small", "big"])
@pytest.mark.parametrize("into", [False, True], ids=["chunk", "out"])
def test_any_split_and_delay(connect: Connect, wire: Wire, x: Any, into: bool) -> None:
    fault = Fault(piece=1) if x is SMALL else Fault(piece=7001, delay=0.0001)
    with FaultProxy(wire(echo).url, answers=fault) as proxy, connect(proxy.url) as client:
        for _ in range(2):
            ask(client, x, {"x": np.empty_like(x)} if into else None)
    assert proxy.accepted == 1


@pytest.mark.parametrize(
    ("after", "text"),
    [
        (0, "nothing received"),
        (20, "20 bytes of the answer's head received"),
        (100, r"\d+ of 8000\d\d\d bytes of the answer's body received"),
        (4_000_000, r"39\d\d\d\d\d of 8000\d\d\d bytes of the answer's body received"),
    ],
)
@pytest.mark.parametrize("then", ["reset", "end", "close", "stall"])
@pytest.mark.parametrize("into", [False, True], ids=["chunk", "out"])
def test_an_answer_that_breaks_off(connect: Connect, wire: Wire, after: int, text: str, then: str, into: bool) -> None:
    stall = then == "stall"
    expected = tw.DeadlineExceeded if stall else tw.ConnectionLost
    fault = Fault(after=after, then=then)
    out = {"x": np.empty_like(BIG)} if into else None
    with (
        FaultProxy(wire(echo).url, answers=fault) as proxy,
        connect(proxy.url, timeout=0.6 if stall else 20.0) as client,
        pytest.raises(expected, match=None if then == "reset" else text) as caught,
    ):
        client.infer({"x": BIG}, out=out)
    if isinstance(caught.value, tw.ConnectionLost) and then != "reset":
        assert caught.value.unanswered == (after == 0)
    del caught, out


@pytest.mark.parametrize("after", [0, 30, 5_000_000])
@pytest.mark.parametrize("then", ["reset", "end", "close", "stall"])
def test_a_request_that_breaks_off(connect: Connect, start: Start, after: int, then: str) -> None:
    def script(sock: socket.socket) -> None:
        while sock.recv(1 << 20):
            pass

    expected = tw.DeadlineExceeded if then == "stall" else tw.ConnectionLost
    with (
        FaultProxy(start(script).url, requests=Fault(after=after, then=then)) as proxy,
        connect(proxy.url, timeout=0.6 if then == "stall" else 20.0) as client,
        pytest.raises(expected, match="bytes of the request sent, nothing received") as caught,
    ):
        client.infer({"x": BIG})
    del caught


@pytest.mark.parametrize("then", ["end", "stall"])
def test_a_failed_answer_is_freed_at_once(wire: Wire, kind: str, then: str) -> None:
    before = tw.pool_stats()["live_chunks"]

    def blocking(url: str) -> None:
        with tw.Client(url, timeout=0.2) as client:
            for _ in range(2):
                with contextlib.suppress(tw.ConnectionLost, tw.DeadlineExceeded):
                    client.infer({"x": BIG})
                assert tw.pool_stats()["live_chunks"] == before

    async def asynchronous(url: str) -> None:
        async with tw.AsyncClient(url, timeout=0.2) as client:
            for _ in range(2):
                with contextlib.suppress(tw.ConnectionLost, tw.DeadlineExceeded):
                    await client.infer({"x": BIG})
                await asyncio.sleep(0)  # The loop holds the error that it has woken a task with until then.
                assert tw.pool_stats()["live_chunks"] == before

    with FaultProxy(wire(echo).url, answers=Fault(after=4_000_000, then=then)) as proxy:
        gc.disable()
        try:
            if kind in LOOPS:
                with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
                    runner.run(asynchronous(proxy.url))
            else:
                blocking(proxy.url)
        finally:
            gc.enable()


def test_after_a_fault_the_client_works(connect: Connect, wire: Wire) -> None:
    once = Fault(after=200, then="reset")
    server = wire(echo)
    with FaultProxy(server.url, answers=once) as proxy, connect(proxy.url) as client:
        for _ in range(3):
            with pytest.raises(tw.ConnectionLost):
                client.infer({"x": BIG})
        assert proxy.accepted == 3
    with connect(server.url) as client:
        ask(client, BIG)


@pytest.mark.parametrize("closes", [True, False])
def test_an_early_refusal_is_the_servers_error(connect: Connect, start: Start, closes: bool) -> None:
    done = threading.Event()

    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer(b"at most 1 MiB", "413 Content Too Large"))
        if not closes:
            done.wait(60)

    server = start(refuse)
    with connect(server.url) as client, contextlib.ExitStack() as stack:
        stack.callback(done.set)
        with pytest.raises(tw.RemoteError, match="at most 1 MiB") as caught:
            client.infer({"x": np.zeros(50_000_000, np.uint8)})
    assert caught.value.status == 413
    del caught


def test_a_refusal_through_slow_links(connect: Connect, start: Start) -> None:
    def refuse(sock: socket.socket) -> None:
        read_head(sock)
        sock.sendall(answer(b"at most 1 MiB", "413 Content Too Large"))
        sock.recv(1)

    slow = Fault(piece=1)
    with (
        FaultProxy(start(refuse).url, answers=slow) as proxy,
        connect(proxy.url) as client,
        pytest.raises(tw.RemoteError, match="at most 1 MiB"),
    ):
        client.infer({"x": np.zeros(50_000_000, np.uint8)})


@pytest.mark.parametrize("after", [0, 100, 4_000_000])
def test_a_cancelled_call_leaves_nothing(wire: Wire, kind: str, after: int) -> None:
    if kind not in LOOPS:
        pytest.skip("calls of a blocking client are not cancelled")

    async def main(url: str) -> None:
        async with tw.AsyncClient(url) as client:
            task = asyncio.ensure_future(client.infer({"x": BIG}, out={"x": np.empty_like(BIG)}))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert len(asyncio.all_tasks()) == 1

    with FaultProxy(wire(echo).url, answers=Fault(after=after)) as proxy, asyncio.Runner(loop_factory=LOOPS[kind]) as r:
        r.run(main(proxy.url))


def test_a_client_of_another_loop_says_so(wire: Wire) -> None:
    client = tw.AsyncClient(wire(echo).url)

    async def main() -> None:
        await client.infer({"x": 1.0})
        for connection in client._idle:
            connection.close()
            await connection.wait_closed()

    asyncio.run(main())
    with pytest.raises(RuntimeError, match="belongs to the event loop"):
        asyncio.run(main())


def test_an_answer_under_way_survives_close(wire: Wire, kind: str) -> None:
    async def main(url: str) -> None:
        client = tw.AsyncClient(url)
        task = asyncio.ensure_future(client.infer({"x": BIG}))
        await asyncio.sleep(0)
        await client.close()
        np.testing.assert_array_equal((await task)["x"], BIG)
        with pytest.raises(RuntimeError, match="is closed"):
            await client.infer({"x": 1.0})
        await asyncio.sleep(0.01)  # for the connection that closes with the answer

    if kind in LOOPS:
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main(wire(echo).url))


def test_tasks_share_a_client(wire: Wire, kind: str) -> None:
    async def main(url: str) -> None:
        async with tw.AsyncClient(url) as client:

            async def call(i: int) -> None:
                for k in range(10):
                    x = np.full(100 * i + 1, k)
                    np.testing.assert_array_equal((await client.infer({"x": x}))["x"], x)

            await asyncio.gather(*map(call, range(8)))

    if kind in LOOPS:
        server = wire(echo)
        with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
            runner.run(main(server.url))
        assert server.accepted <= 8
