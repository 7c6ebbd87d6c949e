"""A message that is laid out as the one before it: it has that one's header, and nothing else of it."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import arrays, unhurried

import tensorwire as tw

Array = np.ndarray[Any, Any]
Message = tw.Request | tw.Response

OTHER = np.zeros((3, 1, 2), "i2")


def written(message: Message, inline_nbytes: int = 512) -> bytes:
    """The message as the writer writes it: the one before is laid out differently."""
    tw.encode(type(message)({"something else": OTHER}))
    return bytes(tw.encode(message, inline_nbytes=inline_nbytes))


def after(first: Message, second: Message, inline_nbytes: int = 512) -> bytes:
    tw.encode(first, inline_nbytes=inline_nbytes)
    return bytes(tw.encode(second, inline_nbytes=inline_nbytes))


@pytest.mark.parametrize("kind", [tw.Request, tw.Response])
@pytest.mark.parametrize("inline_nbytes", [0, 64, 512, 1 << 20])
@pytest.mark.parametrize(
    "sizes", [[0], [1], [1000], [3, 1000], [1000, 3], [3, 4, 5], [1000, 2000, 3000], [8] * 8, [8] * 9]
)
def test_other_values(kind: Callable[..., Message], inline_nbytes: int, sizes: Sequence[int]) -> None:
    for dtype in ("f4", "?", "c16", ml_dtypes.bfloat16):
        first, second = (kind({f"t{i}": np.full(n, fill, dtype) for i, n in enumerate(sizes)}) for fill in (1, 0))
        assert after(first, second, inline_nbytes) == written(second, inline_nbytes)
        assert tw.decode(after(second, first, inline_nbytes), type(first)) == first


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 6), "f4"),
        np.zeros(12, "i4"),
        np.zeros(12, "f8"),
        np.zeros((12, 1), "f4"),
        np.zeros(13, "f4"),
        np.zeros((), "f4"),
        np.array(["a"] * 12, object),
    ],
)
def test_another_array(array: Array) -> None:
    for kind in (tw.Request, tw.Response):
        plain, other = kind({"x": np.ones(12, "f4")}), kind({"x": array})
        assert after(plain, other) == written(other)
        assert after(other, plain) == written(plain)


@pytest.mark.parametrize(
    "fields",
    [
        {"config": "c"},
        {"model": "m"},
        {"version": 7},
        {"label": "l"},
        {"signature": "s"},
        {"id": "i"},
        {"deadline_ms": 9},
        {"outputs": ["y"]},
    ],
)
def test_another_field(fields: dict[str, Any]) -> None:
    x = np.ones(1000, "f4")
    plain, other = tw.Request({"x": x}), tw.Request({"x": x}, **fields)
    assert after(plain, other) == written(other)
    assert after(other, plain) == written(plain)
    assert after(other, other) == written(other)


@pytest.mark.parametrize("names", [["y"], None, ["ä"]])
def test_other_names(names: list[str] | None) -> None:
    x = np.ones(1000, "f4")
    for kind in (tw.Request, tw.Response):
        plain, other = kind({"x": x}), kind(dict(zip(names, [x], strict=True)) if names else [x])
        assert after(plain, other) == written(other)
        assert after(other, plain) == written(plain)


def test_errors_come_between() -> None:
    results, failure = tw.Response({"y": np.ones(4)}), tw.Response(errors=[tw.Status(400, "no")])
    nothing = tw.Response()
    for one in (results, failure, nothing):
        for other in (results, failure, nothing):
            assert after(one, other) == written(other)


@settings(unhurried, max_examples=300)
@given(st.lists(st.lists(arrays(), max_size=3), min_size=2, max_size=4), st.sampled_from([0, 16, 512]))
def test_any_one_after_the_other(messages: list[list[Array]], inline_nbytes: int) -> None:
    requests = [tw.Request({str(i): array for i, array in enumerate(one)}) for one in messages]
    alone = [written(request, inline_nbytes) for request in requests]
    assert [bytes(tw.encode(request, inline_nbytes=inline_nbytes)) for request in requests] == alone


def test_frames_do_not_share_what_can_be_written_to() -> None:
    x = np.arange(1000.0)
    frames = [tw.encode(tw.Request({"x": x + i})) for i in range(3)]
    for i, frame in enumerate(frames):
        assert all(memoryview(buffer).readonly for buffer in frame.buffers)
        np.testing.assert_array_equal(tw.decode(bytes(frame)).inputs["x"], x + i)
    small = [tw.encode(tw.Request({"x": x[:4] + i})) for i in range(3)]
    for i, frame in enumerate(small):
        np.testing.assert_array_equal(tw.decode(bytes(frame)).inputs["x"], x[:4] + i)


def test_copies_are_counted_alike() -> None:
    def counted(message: Message) -> int:
        before = tw.copy_stats()["sent"]
        tw.encode(message)
        return tw.copy_stats()["sent"] - before

    for size, nbytes in ((100, 400), (1000, 0)):
        message = tw.Request({"x": np.ones(size, "f4"), "y": np.ones(8, "u1"), "z": np.ones((size, 2), "f4").T})
        written(message)
        assert [counted(message) for _ in range(3)] == [nbytes + 8 + size * 8] * 3


def test_no_array_is_kept() -> None:
    small, large = np.ones(4), np.ones(1000)
    before = sys.getrefcount(small), sys.getrefcount(large), tw.pool_stats()["holds"]
    for kind in (tw.Request, tw.Response):
        for _ in range(3):
            tw.encode(kind({"small": small, "large": large}))
    gc.collect()
    assert (sys.getrefcount(small), sys.getrefcount(large), tw.pool_stats()["holds"]) == before


def test_what_the_callers_code_encodes_meanwhile() -> None:
    class Nested:
        def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
            tw.encode(tw.Request({"inner": OTHER}))
            return np.arange(1000.0)

    request = tw.Request({"x": Nested()})
    plain = tw.Request({"x": np.arange(1000.0)})
    assert after(plain, request) == after(request, request) == written(plain)


def test_a_collection_that_encodes_meanwhile() -> None:
    """Garbage is collected in the middle of encode; what it runs may leave another layout behind."""
    requests = [tw.Request({"x": np.full(n, n, "f4"), "y": np.full(1000, n, "f4")}) for n in (5, 6)]
    expected = [written(request) for request in requests]

    def collected(phase: str, info: dict[str, int]) -> None:
        tw.encode(tw.Response({"inner": OTHER}))
        tw.encode(tw.Request({"inner": OTHER}))

    before = gc.get_threshold()
    gc.callbacks.append(collected)
    try:
        for threshold in range(1, 12):  # where a collection falls in
            gc.set_threshold(threshold)
            for _ in range(10):
                for request, buf in zip(requests, expected, strict=True):
                    assert [bytes(tw.encode(request)) for _ in range(3)] == [buf] * 3
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(collected)
