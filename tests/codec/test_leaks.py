"""Memory and counters stay where they are over many messages, good and bad.

TENSORWIRE_SOAK is how many messages: 100,000 if unset.
"""

from __future__ import annotations

import gc
import os
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from make_goldens import FOLDER

import tensorwire as tw

MESSAGES = int(os.environ.get("TENSORWIRE_SOAK", 100_000))
ROUND = 1000
SLACK = 100_000
"""Bytes that caches of the interpreter and of numpy may take and keep; a leak of 16 a message is more."""


def counters() -> dict[str, int]:
    stats = tw.pool_stats()
    return {key: stats[key] for key in ("live_chunks", "live_bytes", "holds", "pooled_blocks", "pooled_bytes")}


def resident() -> int:
    """Bytes of memory that the process has, those that Python does not count among them.

    AddressSanitizer keeps what is freed for a while, so under it there is nothing to learn from them.
    """
    if "libasan" in os.environ.get("LD_PRELOAD", ""):
        return 0
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def assert_flat(work: Callable[[], Any], messages: int) -> None:
    """`work` handles ROUND messages; after two rounds nothing may grow with their number."""
    for _ in range(2):
        work()
    gc.collect()
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = counters(), sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0], resident()
        for _ in range(max(1, messages // ROUND)):
            work()
        gc.collect()
        after = counters(), sys.getallocatedblocks(), tracemalloc.get_traced_memory()[0], resident()
    finally:
        tracemalloc.stop()
    assert after[0] == before[0]
    assert after[1] - before[1] < 200
    assert after[2] - before[2] < SLACK
    assert after[3] - before[3] < 8 << 20


GOOD: list[Any] = [
    tw.Request(
        {"x": np.arange(6.0), "s": [b"a\0", "é"], "z": np.zeros((0, 3)), "big": np.ones(1000)},
        ["y"],
        config="{}",
        model="m",
        version=3,
        label="l",
        signature="s",
        id="i",
        deadline_ms=5,
    ),
    tw.Request([np.arange(12, dtype=">i2")[::2], np.ones(300).astype(ml_dtypes.bfloat16), 1.5, "text"]),
    tw.Response({"y": np.ones((2, 300), "f4")}),
    tw.Response(errors=[tw.Status(1, "no"), tw.Status(2, "never")]),
    tw.Metadata("m", "1", "s", "d", [tw.TensorSpec("x", "f4", [-1, 3], "in")], [tw.TensorSpec("y")]),
    tw.MetadataRequest(),
]


@pytest.mark.parametrize("message", GOOD, ids=lambda message: type(message).__name__)
def test_good_messages(message: Any) -> None:
    def work() -> None:
        for _ in range(ROUND):
            frame = tw.encode(message)
            chunk = tw.Chunk(frame.nbytes)
            frame.write_into(chunk)
            assert tw.decode(chunk, type(message)) is not message
            tw.decode(bytes(frame), type(message), as_str=True)

    assert_flat(work, MESSAGES // len(GOOD) // 2)


def test_references_come_back() -> None:
    """Arrays, dtypes, None, names and small objects that a message touches are referred to as often as before."""
    array, name, text = np.ones(1000), "name " * 2, "a config"
    watched = [array, array.dtype, np.dtype(ml_dtypes.bfloat16), np.dtype(object), name, text, tw.Request]

    def work() -> None:
        request = tw.Request({name: array, "s": [b"x"], "b": np.ones(1, ml_dtypes.bfloat16)}, config=text)
        buf = bytes(tw.encode(request))
        for as_str in (False, True):
            tw.decode(buf, tw.Request, as_str=as_str)
        tw.decode(bytes(tw.encode(tw.Metadata(inputs=[tw.TensorSpec("x"), tw.TensorSpec("o", object)]))), tw.Metadata)

    def counts() -> list[int]:
        return [sys.getrefcount(each) for each in watched]

    work()
    before = counts()
    for _ in range(1000):
        work()
    assert counts() == before


def test_refused_messages() -> None:
    """The goldens of bad messages, and every truncation of a good one."""
    whole = bytes(tw.encode(GOOD[0]))
    bad = [path.read_bytes() for path in sorted((FOLDER / "bad").glob("*.bin")) if path.stat().st_size < 2000]
    bad += [whole[:end] for end in range(0, len(whole) - 1, 5)]
    kinds = (tw.Request, tw.Response, tw.Metadata)

    def work() -> None:
        for i in range(ROUND):
            try:
                tw.decode(bad[i % len(bad)], kinds[i // len(bad) % 3], as_str=True)
            except tw.DecodeError:
                continue

    assert_flat(work, MESSAGES // 2)


def test_refused_values() -> None:
    large = np.ones(1000)
    refused: list[Any] = [
        tw.Request([large, np.zeros(1, "M8[s]")]),
        tw.Request([large, [[1], [2, 3]]]),
        tw.Request({"x": large, "s": ["fine", None]}),
        tw.Request([large, ["\ud800"]]),
        tw.Request([large], ["\ud800"]),
        tw.Request([large, np.ma.array([1])]),
        tw.Response([large, np.broadcast_to(np.float64(0), (2**30,))]),
        tw.Metadata(inputs=[tw.TensorSpec("x", "M8[s]")]),
        None,
    ]

    def work() -> None:
        for i in range(ROUND):
            try:
                tw.encode(refused[i % len(refused)])
            except tw.EncodeError:
                continue
            raise AssertionError(refused[i % len(refused)])

    assert_flat(work, MESSAGES // 10)


def test_chunks_and_holds() -> None:
    lender = bytearray(100)

    def work() -> None:
        for i in range(ROUND):
            tw.Chunk((i % 40) * 10_000)
            memoryview(tw.Held(lender)).release()

    assert_flat(work, MESSAGES // 4)
    lender.append(0)
