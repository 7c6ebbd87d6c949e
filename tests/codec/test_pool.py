"""The pool of freed blocks: what is reused, what is kept, what is given back."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

import tensorwire as tw

MIB = 1 << 20


@pytest.fixture(autouse=True)
def _empty_pool() -> Iterator[None]:
    before = tw.pool_limit(64 * MIB)
    tw.pool_trim()
    yield
    tw.pool_trim()
    tw.pool_limit(before)


def waiting() -> tuple[int, int]:
    stats = tw.pool_stats()
    return stats["pooled_blocks"], stats["pooled_bytes"]


@pytest.mark.parametrize("nbytes", [100_000, 2 * MIB, 5 * MIB])
def test_a_freed_block_is_handed_out_again(nbytes: int) -> None:
    chunk = tw.Chunk(nbytes)
    start = chunk.address
    del chunk
    assert waiting()[0] == 1
    before = tw.pool_stats()["reused"]
    again = tw.Chunk(nbytes - 1000)
    assert again.address == start
    assert again.nbytes == nbytes - 1000
    assert tw.pool_stats()["reused"] == before + 1
    assert waiting() == (0, 0)


def test_small_blocks_are_not_pooled() -> None:
    for _ in range(10):
        tw.Chunk(1000)
    assert waiting() == (0, 0)


def test_a_block_is_not_wasted_on_much_less() -> None:
    del (large := [tw.Chunk(32 * MIB)])[:]
    assert waiting() == (1, 32 * MIB)
    small = tw.Chunk(8 * MIB)
    assert waiting() == (1, 32 * MIB)
    del small, large
    assert waiting() == (2, 40 * MIB)


def test_the_closest_fit_is_taken() -> None:
    chunks = [tw.Chunk(n * MIB) for n in (18, 16, 20)]
    closest = chunks[1].address
    del chunks
    assert tw.Chunk(16 * MIB).address == closest


def test_the_oldest_go_first() -> None:
    for n in (2, 4, 6):
        tw.Chunk(n * MIB)
    assert waiting() == (3, 12 * MIB)
    assert tw.pool_limit(10 * MIB) == 64 * MIB
    assert waiting() == (2, 10 * MIB)
    tw.Chunk(12 * MIB)  # over the limit by itself: kept by nobody, and no reason to drop the others
    assert waiting() == (2, 10 * MIB)
    tw.Chunk(8 * MIB)
    assert waiting() == (1, 8 * MIB)


def test_many_blocks() -> None:
    chunks = [tw.Chunk(1 << 16) for _ in range(100)]
    del chunks
    assert waiting() == (64, 64 << 16)
    assert tw.pool_trim() == 64 << 16
    assert waiting() == (0, 0)


def test_limits_are_numbers_from_0_up() -> None:
    with pytest.raises(ValueError, match="0 or more bytes, not -1"):
        tw.pool_limit(-1)
    tw.pool_limit(0)
    tw.Chunk(4 * MIB)
    assert waiting() == (0, 0)


def test_blocks_that_have_waited_long_enough_are_given_back() -> None:
    del (chunks := [tw.Chunk(4 * MIB), tw.Chunk(8 * MIB)])[:]
    assert chunks == []
    assert tw.pool_trim(3600) == 0
    assert waiting() == (2, 12 * MIB)
    before = tw.pool_stats()["live_chunks"]
    young = tw.Chunk(8 * MIB)
    time.sleep(0.05)
    del young
    assert tw.pool_trim(0.05) == 4 * MIB  # what came back just now stays
    assert waiting() == (1, 8 * MIB)
    assert tw.pool_trim() == 8 * MIB
    assert tw.pool_stats()["live_chunks"] == before
