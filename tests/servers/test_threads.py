"""Threads are started without waiting for them, and what the system refuses is told."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from tensorwire.servers.repository.aside import run_aside
from tensorwire.servers.scheduling.workers import Workers
from tensorwire.servers.threads import start_aside

PATIENCE = 10.0


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of threads that the system does not start."""
    names: list[str] = []
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    return names


def never(error: RuntimeError, started: int) -> None:
    raise AssertionError("not called") from error


def test_nobody_waits_for_a_start(monkeypatch: pytest.MonkeyPatch) -> None:
    free, ran = threading.Event(), threading.Event()
    start = threading.Thread.start

    def slow(thread: threading.Thread) -> None:
        assert free.wait(PATIENCE)
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", slow)
    start_aside([threading.Thread(target=ran.set, daemon=True)], never)
    workers, call = Workers(2), run_aside(lambda: 7)
    assert not ran.is_set() and not call.done()
    free.set()
    assert ran.wait(PATIENCE) and call.result(PATIENCE) == 7
    workers.close()


def test_threads_start_in_order() -> None:
    done = threading.Event()
    threads = [threading.Thread(target=int) for _ in range(20)]
    start_aside([*threads, threading.Thread(target=done.set)], never)
    assert done.wait(PATIENCE)
    for thread in threads:
        thread.join(PATIENCE)  # RuntimeError when it has not been started


def test_a_failed_start_says_how_many_were_started(refused: list[str]) -> None:
    told: list[tuple[str, int]] = []
    done = threading.Event()
    refused.append("third")

    def failed(error: RuntimeError, started: int) -> None:
        told.append((str(error), started))
        done.set()

    start_aside([threading.Thread(target=int, name=name) for name in ("first", "second", "third", "fourth")], failed)
    assert done.wait(PATIENCE)
    assert told == [("can't start new thread", 2)]


@pytest.mark.parametrize("missing", [["pool-0", "pool-1"], ["pool-1"]])
def test_jobs_are_done_though_threads_are_refused(
    missing: list[str], refused: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    refused.extend(missing)

    async def main() -> list[Any]:
        workers = Workers(2, name="pool")
        found: list[Any] = []
        for number in range(10):
            workers.submit(lambda number: number, (number,), found.append)
        assert await workers.drain(PATIENCE)
        workers.close()
        return found

    assert asyncio.run(main()) == list(range(10))
    assert [record.getMessage() for record in caplog.records] == ["pool: can't start new thread: 1 of 2 threads run"]


def test_a_call_whose_thread_is_refused_fails(refused: list[str]) -> None:
    refused.append("remote")
    with pytest.raises(RuntimeError, match="can't start new thread"):
        run_aside(lambda: 7).result(PATIENCE)
