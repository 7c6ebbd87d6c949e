"""Page-locking of blocks: when the functions are called, for which blocks, and what their refusals do."""

from __future__ import annotations

import ctypes
import gc
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import tensorwire as tw
from tensorwire._memory import page_lock

MIB = 1 << 20
HUGE = 2 * MIB

LOCK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
UNLOCK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)


class Driver:
    """Stands in for CUDA's driver: remembers what is locked, and reads each block while it is being locked or unlocked,
    which would crash if it were not mapped then."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.locked: dict[int, int] = {}
        self.refuse_lock = 0
        self.refuse_unlock = 0
        # The pool calls these for as long as blocks are theirs: they live as long as the process.
        self._functions = LOCK(self._lock), UNLOCK(self._unlock)
        _KEPT.append(self._functions)

    @property
    def addresses(self) -> tuple[int, int]:
        lock, unlock = [ctypes.cast(function, ctypes.c_void_p).value or 0 for function in self._functions]
        return lock, unlock

    def _lock(self, data: int, nbytes: int, flags: int) -> int:
        self.calls.append(("lock", data))
        if self.refuse_lock:
            return self.refuse_lock
        assert flags == 0 and data not in self.locked
        ctypes.memset(data, 1, 1), ctypes.memset(data + nbytes - 1, 1, 1)
        self.locked[data] = nbytes
        return 0

    def _unlock(self, data: int) -> int:
        self.calls.append(("unlock", data))
        if self.refuse_unlock:
            return self.refuse_unlock
        ctypes.string_at(data, 1), ctypes.string_at(data + self.locked.pop(data) - 1, 1)
        return 0


_KEPT: list[Any] = []


@pytest.fixture
def driver() -> Iterator[Driver]:
    gc.collect()
    tw.pool_trim()
    before = tw.pool_limit(64 * MIB)
    made = Driver()
    page_lock(*made.addresses)
    yield made
    page_lock(0, 0)
    made.refuse_unlock = 0
    tw.pool_limit(before)
    tw.pool_trim()


def locked_bytes() -> int:
    return tw.pool_stats()["locked_bytes"]


def test_a_block_is_locked_once_and_unlocked_before_it_is_unmapped(driver: Driver) -> None:
    before = locked_bytes()
    chunk = tw.Chunk(3 * MIB)
    address = chunk.address
    assert driver.locked == {address: 4 * MIB}  # whole huge pages
    assert locked_bytes() == before + 4 * MIB
    del chunk
    again = tw.Chunk(3 * MIB + 1)
    assert again.address == address
    assert driver.calls == [("lock", address)]  # it stayed locked while it waited
    del again
    assert tw.pool_trim() == 4 * MIB
    assert driver.calls == [("lock", address), ("unlock", address)]
    assert locked_bytes() == before


@pytest.mark.parametrize("nbytes", [0, 100, 1 << 16, HUGE - (1 << 16)])
def test_small_blocks_are_left_alone(driver: Driver, nbytes: int) -> None:
    del (chunks := [tw.Chunk(nbytes)])[:]
    tw.pool_trim()
    assert chunks == [] and driver.calls == []


def test_a_block_over_the_pools_cap_is_unlocked_at_once(driver: Driver) -> None:
    tw.pool_limit(HUGE)
    tw.Chunk(8 * MIB)
    assert [call for call, _ in driver.calls] == ["lock", "unlock"]
    assert not driver.locked


def test_eviction_unlocks_the_oldest(driver: Driver) -> None:
    tw.pool_limit(6 * MIB)
    chunks = [tw.Chunk(HUGE), tw.Chunk(4 * MIB), tw.Chunk(HUGE)]
    first = chunks[0].address
    while chunks:
        del chunks[0]
    assert ("unlock", first) in driver.calls
    assert len(driver.locked) == 2


def test_arrays_keep_their_block_locked(driver: Driver) -> None:
    tw.pool_limit(0)
    message = tw.encode(tw.Response({"y": np.arange(MIB, dtype=np.float32)}))
    chunk = tw.Chunk(message.nbytes)
    message.write_into(chunk)
    y = tw.decode(chunk, tw.Response).outputs["y"]
    del chunk
    assert len(driver.locked) == 1
    assert y[-1] == MIB - 1
    del y
    assert not driver.locked


def test_a_refusal_to_lock_is_counted_and_the_block_used_as_it_is(driver: Driver) -> None:
    before = tw.pool_stats()
    driver.refuse_lock = 2  # cudaErrorMemoryAllocation
    chunk = tw.Chunk(HUGE)
    memoryview(chunk)[:4] = b"data"
    stats = tw.pool_stats()
    assert (stats["lock_failures"] - before["lock_failures"], stats["lock_error"]) == (1, 2)
    assert stats["locked_bytes"] == before["locked_bytes"]
    address = chunk.address
    del chunk
    driver.refuse_lock = 0
    assert tw.Chunk(HUGE).address == address  # tried again on its next use
    assert driver.locked == {address: HUGE}


def test_a_block_that_cannot_be_unlocked_stays_mapped(driver: Driver) -> None:
    before = tw.pool_stats()
    chunk = tw.Chunk(HUGE)
    address = chunk.address
    memoryview(chunk)[:4] = b"data"
    del chunk
    driver.refuse_unlock = 4  # cudaErrorCudartUnloading
    assert tw.pool_trim() == HUGE
    stats = tw.pool_stats()
    assert (stats["lock_failures"] - before["lock_failures"], stats["lock_error"]) == (1, 4)
    assert stats["pooled_blocks"] == 0
    assert ctypes.string_at(address, 4) == b"data"
    others = [tw.Chunk(HUGE) for _ in range(4)]
    assert address not in [other.address for other in others]


def test_ending_it_gives_back_what_waits_and_later_what_is_in_use(driver: Driver) -> None:
    waiting, used = tw.Chunk(HUGE), tw.Chunk(4 * MIB)
    address = used.address
    del waiting
    page_lock(0, 0)
    assert driver.locked == {address: 4 * MIB}
    assert tw.Chunk(6 * MIB).address not in driver.locked
    del used
    tw.pool_trim()
    assert not driver.locked


def test_blocks_from_before_are_locked_when_they_are_used_again(driver: Driver) -> None:
    page_lock(0, 0)
    chunk = tw.Chunk(HUGE)
    address = chunk.address
    del chunk
    page_lock(*driver.addresses)
    assert driver.calls == []
    assert tw.Chunk(HUGE).address == address
    assert driver.locked == {address: HUGE}


def test_a_block_is_unlocked_by_whom_it_was_locked(driver: Driver) -> None:
    chunk = tw.Chunk(HUGE)
    other = Driver()
    page_lock(*other.addresses)
    del chunk
    mine = tw.Chunk(4 * MIB)
    assert list(other.locked) == [mine.address]
    tw.pool_trim()
    assert not driver.locked and other.calls == [("lock", mine.address)]
    del mine
    tw.pool_trim()
    assert not other.locked


def test_many_threads(driver: Driver) -> None:
    """The functions run Python here, which lets the threads in at every call."""
    tw.pool_limit(8 * MIB)

    def churn(seed: int) -> None:
        sizes = np.random.default_rng(seed).integers(1, 4, 100)
        for size in sizes:
            tw.Chunk(int(size) * HUGE)

    threads = [threading.Thread(target=churn, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(driver.locked.values()) == tw.pool_stats()["pooled_bytes"]
    tw.pool_trim()
    assert not driver.locked
    assert sum(call == "lock" for call, _ in driver.calls) == sum(call == "unlock" for call, _ in driver.calls)


def test_one_function_alone_is_a_mistake(driver: Driver) -> None:
    with pytest.raises(ValueError, match="takes two functions, or 0 twice"):
        page_lock(driver.addresses[0], 0)
    with pytest.raises(ValueError, match="takes two functions, or 0 twice"):
        page_lock(0, driver.addresses[1])
