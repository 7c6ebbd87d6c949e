"""Worker threads: where jobs and results run, the bound on the queue, failures, and what is kept alive."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from waiting import wait_until

from tensorwire.servers.model import RequestError
from tensorwire.servers.scheduling.workers import Workers

PATIENCE = 10.0


def run(test: Callable[[Workers], Coroutine[Any, Any, None]], size: int = 1, **options: Any) -> None:
    """Run a coroutine with a pool of its own."""

    async def main() -> None:
        workers = Workers(size, **options)
        try:
            await asyncio.wait_for(test(workers), PATIENCE)
        finally:
            workers.close()

    asyncio.run(main())


class Gate:
    """A job that stays in its thread until it is let go."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self.open = threading.Event()

    def __call__(self) -> str:
        self.entered.release()
        assert self.open.wait(PATIENCE)
        return "through"


def test_jobs_run_in_threads_and_results_on_the_loop() -> None:
    async def test(workers: Workers) -> None:
        seen: list[tuple[Any, str]] = []
        for n in range(100):
            workers.submit(
                lambda n: (n, threading.current_thread().name),
                (n,),
                lambda result: seen.append((result, threading.current_thread().name)),
            )
        assert workers.in_flight == 100
        assert await workers.drain()
        assert workers.in_flight == 0
        assert [result for result, _ in seen] == [(n, "pool-0") for n in range(100)]
        assert {thread for _, thread in seen} == {threading.current_thread().name}

    run(test, name="pool")


def test_as_many_jobs_run_at_once_as_there_are_threads() -> None:
    async def test(workers: Workers) -> None:
        gate = Gate()
        results: list[str] = []
        for _ in range(3):
            workers.submit(gate, (), results.append)
        for _ in range(3):
            assert gate.entered.acquire(timeout=PATIENCE)
        gate.open.set()
        assert await workers.drain(PATIENCE)
        assert results == ["through"] * 3

    run(test, 3)


def test_over_the_bound_a_job_is_refused_and_room_comes_back() -> None:
    async def test(workers: Workers) -> None:
        gate = Gate()
        results: list[str] = []
        for _ in range(3):
            workers.submit(gate, (), results.append)
        with pytest.raises(RequestError, match="busy: 2 requests are waiting") as caught:
            workers.submit(gate, (), results.append)
        assert caught.value.code == 503
        assert not await workers.drain(0.01)
        gate.open.set()
        assert await workers.drain(PATIENCE)
        assert len(results) == 3
        workers.submit(gate, (), results.append)
        assert await workers.drain(PATIENCE)
        assert len(results) == 4

    run(test, 1, max_queue=2)


@pytest.mark.parametrize(
    "error", [ValueError("v"), SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError()]
)
def test_a_thread_survives_what_a_job_raises(error: BaseException) -> None:
    def fail() -> None:
        raise error

    async def test(workers: Workers) -> None:
        results: list[Any] = []
        workers.submit(fail, (), results.append)
        workers.submit(str, (7,), results.append)
        assert await workers.drain(PATIENCE)
        assert results == [error, "7"]

    run(test)


def test_a_failing_done_does_not_keep_other_results_back(caplog: pytest.LogCaptureFixture) -> None:
    def fail(result: Any) -> None:
        raise ValueError("in done")

    async def test(workers: Workers) -> None:
        results: list[Any] = []
        for done in (fail, results.append, fail, results.append):
            workers.submit(int, (), done)
        assert await workers.drain(PATIENCE)
        assert results == [0, 0]

    run(test)
    assert [record.message for record in caplog.records] == ["a result could not be delivered"] * 2


def test_a_done_may_submit_the_next_job() -> None:
    async def test(workers: Workers) -> None:
        results: list[int] = []

        def again(result: int) -> None:
            results.append(result)
            if result < 50:
                workers.submit(lambda: result + 1, (), again)

        workers.submit(int, (), again)
        while workers.in_flight:
            await workers.drain(PATIENCE)
        assert results == list(range(51))

    run(test, 2)


def test_nothing_of_a_job_is_alive_when_its_result_is_delivered() -> None:
    async def test(workers: Workers) -> None:
        alive: list[bool] = []

        def submit() -> None:
            array = np.ones(3)
            reference = weakref.ref(array)
            workers.submit(
                lambda x: float(x.sum()), (array,), lambda result: alive.append(reference() is not None)
            )

        for _ in range(50):
            submit()
            assert await workers.drain(PATIENCE)
        assert not any(alive)

    run(test)


def test_a_closed_pool_finishes_what_it_has_and_takes_no_more() -> None:
    async def test(workers: Workers) -> None:
        results: list[int] = []
        for _ in range(5):
            workers.submit(int, (), results.append)
        workers.close()
        workers.close()
        with pytest.raises(RequestError, match="shutting down") as caught:
            workers.submit(int, (), results.append)
        assert caught.value.code == 503
        assert await workers.drain(PATIENCE)
        assert results == [0] * 5

    run(test, 2, name="closed")
    wait_until(lambda: not [thread for thread in threading.enumerate() if thread.name.startswith("closed-")])


def test_a_result_after_the_loop_has_gone_is_dropped() -> None:
    gate = Gate()
    workers = Workers(1)

    async def main() -> None:
        workers.submit(gate, (), lambda result: None)
        assert gate.entered.acquire(timeout=PATIENCE)

    asyncio.run(main())
    workers.close()
    gate.open.set()
    workers._threads[0].join(PATIENCE)
    assert not workers._threads[0].is_alive()


@pytest.mark.parametrize(("size", "max_queue"), [(0, 1), (1, -1)])
def test_impossible_sizes(size: int, max_queue: int) -> None:
    with pytest.raises(ValueError, match="size is 1 or more and max_queue 0 or more"):
        Workers(size, max_queue=max_queue)


def gave_up(running: bool, why: str) -> str:
    return f"late {running}{why}"


def test_a_job_past_its_time_is_answered_and_its_thread_counted_until_it_is_back() -> None:
    async def test(workers: Workers) -> None:
        gate = Gate()
        results: list[Any] = []
        workers.submit(gate, (), results.append, seconds=0.05, late=gave_up)
        assert gate.entered.acquire(timeout=PATIENCE)
        assert await workers.drain(PATIENCE)
        assert (results, workers.in_flight, workers.overdue) == (["late True"], 0, 1)
        workers.submit(gate, (), results.append)
        workers.submit(int, (), results.append, seconds=0.01, late=gave_up)
        while len(results) < 2:
            await asyncio.sleep(0.001)
        assert results[1] == "late False; 1 of the model's 2 threads are held past a deadline"
        gate.open.set()
        while workers.overdue:
            await asyncio.sleep(0.001)
        workers.submit(str, (7,), results.append, seconds=PATIENCE, late=gave_up)
        assert await workers.drain(PATIENCE)
        assert (sorted(results[2:]), workers.stuck) == (["7", "through"], False)

    run(test, 2)


def test_jobs_that_were_given_up_in_the_queue_neither_run_nor_pile_up() -> None:
    async def test(workers: Workers) -> None:
        gate = Gate()
        ran: list[int] = []
        results: list[Any] = []
        alive: list[weakref.ref[Any]] = []
        workers.submit(gate, (), results.append)
        for n in range(1000):
            array = np.ones(3)
            alive.append(weakref.ref(array))
            workers.submit(lambda x, n=n: ran.append(n), (array,), results.append, seconds=0.001, late=gave_up)
            del array
            if n % 50 == 0:
                workers.submit(ran.append, (-n,), results.append, seconds=PATIENCE, late=gave_up)
                await asyncio.sleep(0.01)
        while len(results) < 1000:
            await asyncio.sleep(0.01)
        assert set(results) == {"late False"}
        assert not any(reference() is not None for reference in alive)
        assert workers._jobs.qsize() < 200
        gate.open.set()
        assert await workers.drain(PATIENCE)
        assert ran == [-n for n in range(0, 1000, 50)]
        assert (workers._dead, workers._jobs.qsize(), workers.overdue) == (0, 0, 0)

    run(test)


def test_deadline_and_result_at_once_give_one_answer() -> None:
    async def test(workers: Workers) -> None:
        for _ in range(300):
            results: list[Any] = []
            workers.submit(time.sleep, (0.001,), results.append, seconds=0.001, late=gave_up)
            assert await workers.drain(PATIENCE)
            while workers.overdue or workers._dead:
                await asyncio.sleep(0)
            assert results in ([None], ["late True"], ["late False"])
        assert workers.in_flight == 0

    run(test, 2)


def test_deadlines_that_are_met_do_not_pile_up() -> None:
    async def test(workers: Workers) -> None:
        results: list[Any] = []
        for n in range(50):
            for _ in range(20):
                workers.submit(int, (), results.append, seconds=PATIENCE + n, late=gave_up)
            assert await workers.drain(PATIENCE)
        assert results == [0] * 1000
        assert len(workers._deadlines) < 100
        gate = Gate()
        workers.submit(gate, (), results.append, seconds=0.05, late=gave_up)
        workers.submit(int, (), results.append, seconds=0.02, late=gave_up)
        workers.submit(int, (), results.append, seconds=PATIENCE, late=gave_up)
        while len(results) < 1002:
            await asyncio.sleep(0.001)
        assert [text.partition(";")[0] for text in results[1000:]] == ["late False", "late True"]
        gate.open.set()
        assert await workers.drain(PATIENCE)
        assert results[1002:] == [0]

    run(test)
