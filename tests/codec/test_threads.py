"""Many threads encode and decode at once, the same messages and their own."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ml_dtypes
import numpy as np
import pytest

import tensorwire as tw

THREADS = 8
SECONDS = 1.0


@pytest.fixture(autouse=True)
def _restless() -> Iterator[None]:
    """Threads change places as often as the interpreter allows."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def in_threads(work: Callable[[int], None], seconds: float = SECONDS) -> None:
    """Run `work` over and over in every thread, each with its own number."""
    end = time.monotonic() + seconds
    failures: list[BaseException] = []
    start = threading.Barrier(THREADS)

    def run(number: int) -> None:
        start.wait()
        try:
            while time.monotonic() < end and not failures:
                work(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]


def message(number: int) -> tw.Request:
    inputs: dict[str, Any] = {
        "small": np.full(3, number, "<i4"),
        "large": np.full((300, 10 + number), number, "<f8"),
        "strided": np.full((64, 64), number, ">u2")[::2, ::3],
        "bf16": np.full(2000, number).astype(ml_dtypes.bfloat16),
        "text": [f"thread {number}", "é\0" * number, ""],
    }
    return tw.Request(inputs, ["y"], model=f"model {number}", version=number)


def test_each_thread_its_own_messages() -> None:
    before = tw.pool_stats()["holds"]
    sent = [message(number) for number in range(THREADS)]
    expected = [bytes(tw.encode(each)) for each in sent]

    def work(number: int) -> None:
        frame = tw.encode(sent[number])
        chunk = tw.Chunk(frame.nbytes)
        frame.write_into(chunk)
        assert bytes(chunk) == expected[number]
        got = tw.decode(chunk, tw.Request, as_str=True)
        assert (got.model, got.version) == (f"model {number}", number)
        assert got.inputs["text"].tolist() == sent[number].inputs["text"]
        assert (got.inputs["large"] == number).all()
        assert bytes(tw.encode(got)) == expected[number]

    in_threads(work)
    assert tw.pool_stats()["holds"] == before


def test_all_threads_the_same_objects() -> None:
    """All write out one frame and decode one buffer, and look names up for the first time."""
    shared = message(5)
    frame = tw.encode(shared)
    before = tw.pool_stats()["holds"]
    buf = bytearray(bytes(frame))
    expected = bytes(buf)
    decoded = [tw.decode(buf, tw.Request)]
    failures = 0

    def work(number: int) -> None:
        nonlocal failures
        assert bytes(frame) == expected
        got = tw.decode(buf, tw.Request)
        assert got == decoded[0]
        if number == 0:
            decoded[0] = got
        assert decoded[0].inputs["bf16"][-1] == 5
        try:
            tw.decode(expected[: 8 + number * 50], tw.Request)
        except tw.DecodeError:
            failures += 1

    in_threads(work)
    assert failures
    decoded.clear()
    buf.append(0)
    assert tw.pool_stats()["holds"] == before


def test_large_copies_beside_other_work() -> None:
    """Copies of a mebibyte and more let other threads run; what they copy stays as it is."""
    arrays = [np.full(2**18, number, "<f8") for number in range(THREADS)]
    live = tw.pool_stats()["live_chunks"]

    def work(number: int) -> None:
        frame = tw.encode(tw.Request([arrays[number]]))
        chunk = tw.Chunk(frame.nbytes)
        frame.write_into(chunk)
        [got] = tw.decode(chunk, tw.Request).inputs.arrays
        del chunk
        assert got[0] == got[-1] == number

    in_threads(work, SECONDS / 2)
    assert tw.pool_stats()["live_chunks"] == live
