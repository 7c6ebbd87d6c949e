"""Who owns what: every claim of "no copy" and "no leak" by addresses, reference counts and export counters."""

from __future__ import annotations

import gc
import mmap
import sys
import weakref
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest

import tensorwire as tw

INLINE_NBYTES = 512
LARGE = np.arange(1000, dtype="<f4")


def address(buffer: Any) -> int:
    return int(np.frombuffer(buffer, "u1").ctypes.data)


def holds() -> int:
    return tw.pool_stats()["holds"]


@pytest.fixture(autouse=True)
def _nothing_left_held() -> Any:
    """Whatever a test holds is given back when its last name is gone, without the cycle collector."""
    gc.collect()
    before = holds(), tw.pool_stats()["live_chunks"], tw.pool_stats()["live_bytes"]
    yield
    after = holds(), tw.pool_stats()["live_chunks"], tw.pool_stats()["live_bytes"]
    assert after == before


# encode


def test_buffers_are_the_arrays_own_memory() -> None:
    arrays = [LARGE, LARGE.reshape(10, 100), LARGE[100:900], LARGE.astype(ml_dtypes.bfloat16)]
    frame = tw.encode(tw.Response(arrays))
    views = frame.buffers[1::2]
    assert [address(view) for view in views] == [array.ctypes.data for array in arrays]
    assert [memoryview(view).nbytes for view in views] == [array.nbytes for array in arrays]
    assert [len(memoryview(header)) < 1000 for header in frame.buffers[::2]] == [True] * 4
    assert b"".join(frame.buffers) == bytes(frame)


def test_buffers_are_flat_read_only_bytes() -> None:
    for view in map(memoryview, tw.encode(tw.Request([LARGE, LARGE])).buffers):
        assert (view.format, view.ndim, view.itemsize, view.readonly) == ("B", 1, 1, True)
    assert LARGE.flags.writeable


@pytest.mark.parametrize("wire", oracle.WIRE_TYPES)
def test_no_type_is_copied(wire: int) -> None:
    array = np.ones(INLINE_NBYTES + 1).astype(oracle.WIRE_TYPES[wire])
    frame = tw.encode(tw.Request([array]))
    assert [address(view) for view in frame.buffers[1:]] == [array.ctypes.data]


def test_small_payloads_are_in_the_header() -> None:
    small, large = np.zeros(INLINE_NBYTES, "u1"), np.zeros(INLINE_NBYTES + 1, "u1")
    assert [type(each) for each in tw.encode(tw.Request([small])).buffers] == [bytes]
    assert len(tw.encode(tw.Request([large])).buffers) == 2
    assert len(tw.encode(tw.Request([small, large, small])).buffers) == 3


def test_a_frame_holds_the_arrays_and_lets_them_go() -> None:
    array = LARGE.copy()
    before = sys.getrefcount(array), holds()
    frame = tw.encode(tw.Request({"x": array}))
    assert holds() == before[1] + 1
    view = frame.buffers[1]
    del frame
    assert holds() == before[1] + 1
    assert bytes(view) == array.tobytes()
    del view
    assert (sys.getrefcount(array), holds()) == before


def test_an_array_that_only_the_frame_holds() -> None:
    frame = tw.encode(tw.Request([LARGE.copy()]))
    gc.collect()
    assert tw.decode(bytes(frame), tw.Request).inputs[0].tolist() == LARGE.tolist()


def test_failures_hold_nothing() -> None:
    array = LARGE.copy()
    before = sys.getrefcount(array), holds()
    for bad in (object(), np.zeros(1, "M8[s]"), [[1], [2, 3]]):
        with pytest.raises(tw.EncodeError):
            tw.encode(tw.Request([array, array[::2], bad]))
        assert holds() == before[1]
    assert sys.getrefcount(array) == before[0]


def test_strings_are_not_kept() -> None:
    value = b"a string of its own" * 2
    before = sys.getrefcount(value)
    frame = tw.encode(tw.Request([np.array([value], object)]))
    assert sys.getrefcount(value) == before
    assert value in bytes(frame)


class ByArray:
    def __init__(self, array: Any) -> None:
        self.array = array

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        return self.array


class ByDlpack:
    """What a framework's tensor offers at the least."""

    def __init__(self, array: Any) -> None:
        self.array = array

    def __dlpack__(self, **options: Any) -> Any:
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self) -> Any:
        return self.array.__dlpack_device__()


class ByDlpackOfAnOldWorld(ByDlpack):
    def __dlpack__(self, stream: Any = None) -> Any:  # type: ignore[override]
        return self.array.__dlpack__()


class OnAGpu(ByDlpack):
    def __dlpack__(self, **options: Any) -> Any:
        raise BufferError("this memory is on a GPU")


@pytest.mark.parametrize("kind", [ByArray, ByDlpack, ByDlpackOfAnOldWorld, memoryview, bytearray])
def test_foreign_tensors_are_not_copied(kind: Any) -> None:
    array = LARGE.copy()
    foreign = kind(array)
    start = address(foreign) if kind is bytearray else array.ctypes.data
    before = sys.getrefcount(foreign)
    frame = tw.encode(tw.Request({"x": foreign}))
    assert address(frame.buffers[1]) == start
    del frame
    assert sys.getrefcount(foreign) == before


def test_foreign_tensors_that_are_elsewhere_say_so() -> None:
    with pytest.raises(tw.EncodeError, match=r"^input 'x': OnAGpu is not an array: this memory is on a GPU$"):
        tw.encode(tw.Request({"x": OnAGpu(LARGE)}))


def test_an_exception_of_the_callers_own_is_told() -> None:
    class Broken:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            raise RuntimeError("not today")

    with pytest.raises(tw.EncodeError, match=r"^input 0: Broken is not an array: not today$") as caught:
        tw.encode(tw.Request([Broken()]))
    assert isinstance(caught.value.__cause__, RuntimeError)


def test_a_conversion_may_change_arrays_that_came_before() -> None:
    """What the parts of a message point into is looked at only when no more code of the caller's runs."""
    first = np.zeros((2, 3), "u1")

    class Meddler:
        def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
            nonlocal first
            first.resize((1, 1, 1, 6), refcheck=False)
            return np.zeros(1, "u1")

    buf = bytes(tw.encode(tw.Request([first, Meddler()])))
    assert tw.decode(buf, tw.Request).inputs[0].shape == (1, 1, 1, 6)


# write_into


def test_write_into() -> None:
    frame = tw.encode(tw.Request({"x": LARGE, "y": np.zeros(2**18, "f8")}))
    for target in (bytearray(frame.nbytes), np.zeros(frame.nbytes + 5, "u1"), tw.Chunk(frame.nbytes)):
        assert frame.write_into(target) == frame.nbytes == len(frame)
        assert bytes(target)[: frame.nbytes] == bytes(frame)
    with mmap.mmap(-1, frame.nbytes) as target:
        frame.write_into(target)
        assert target[:] == bytes(frame)


def test_write_into_what_it_does_not_fit() -> None:
    frame = tw.encode(tw.Request({"x": LARGE}))
    small = bytearray(b"\xaa" * (frame.nbytes - 1))
    text = f"the message has {frame.nbytes} bytes, the buffer only {frame.nbytes - 1}"
    with pytest.raises(ValueError, match=text):
        frame.write_into(small)
    assert set(small) == {0xAA}
    small.append(0)  # would raise BufferError, were it still exported
    with pytest.raises(BufferError):
        frame.write_into(bytes(frame.nbytes))
    with pytest.raises(TypeError):
        frame.write_into("text")  # type: ignore[arg-type]


def test_write_into_after_the_list_was_changed() -> None:
    """`buffers` is an ordinary list; what is added to it is not written behind the target."""
    frame = tw.encode(tw.Request({"x": LARGE}))
    target = bytearray(frame.nbytes)
    frame.buffers.append(b"x" * 4096)
    with pytest.raises(ValueError, match="more bytes than the message"):
        frame.write_into(target)
    del frame.buffers[1:]
    with pytest.raises(ValueError, match="lacks 4000 bytes"):
        frame.write_into(target)


# decode


def base_of(array: Any) -> Any:
    assert array.base is not None
    return array.base


@pytest.mark.parametrize(
    ("make", "owner", "writable"),
    [(bytes, tw.Held, False), (bytearray, tw.Held, True), (None, tw.Chunk, True)],
    ids=["bytes", "bytearray", "Chunk"],
)
def test_decoded_arrays_are_views(make: Any, owner: type, writable: bool) -> None:
    frame = tw.encode(tw.Request({"x": LARGE, "small": np.int8([1])}))
    if make is None:
        buf: Any = tw.Chunk(frame.nbytes)
        frame.write_into(buf)
    else:
        buf = make(bytes(frame))
    start = address(buf)
    request = tw.decode(buf, tw.Request)
    for array in request.inputs.arrays:
        assert type(base_of(array)) is owner
        assert array.flags.writeable == writable
        assert not array.flags.owndata
        assert start <= array.ctypes.data < start + frame.nbytes
        assert np.shares_memory(array, np.frombuffer(buf, "u1"))
    assert base_of(request.inputs[0]) is base_of(request.inputs[1])
    array = request.inputs["x"]
    kept = sys.getrefcount(buf)
    del request
    if make is not None:
        assert sys.getrefcount(buf) == kept
    del buf
    gc.collect()
    assert array.tolist() == LARGE.tolist()
    if writable:
        array[:] = 0
        assert not array.any()
    else:
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0
        with pytest.raises(ValueError, match="WRITEABLE"):
            array.flags.writeable = True


def test_decoding_holds_the_buffer_once() -> None:
    buf = bytes(tw.encode(tw.Request([LARGE] * 10)))
    before = sys.getrefcount(buf), holds()
    request = tw.decode(buf, tw.Request)
    assert (sys.getrefcount(buf), holds()) == (before[0] + 1, before[1] + 1)
    last = request.inputs[9]
    del request
    assert holds() == before[1] + 1
    del last
    assert (sys.getrefcount(buf), holds()) == before


def test_a_message_without_arrays_holds_nothing() -> None:
    for message in (tw.Metadata("m"), tw.Response(errors=[tw.Status(1, "e")]), tw.MetadataRequest()):
        buf = bytearray(bytes(tw.encode(message)))
        decoded = tw.decode(buf, type(message))
        buf.append(0)  # would raise BufferError, were it still exported
        assert decoded == message


def test_a_bytearray_is_frozen_while_views_live() -> None:
    buf = bytearray(bytes(tw.encode(tw.Request([LARGE]))))
    array = tw.decode(buf, tw.Request).inputs[0]
    with pytest.raises(BufferError):
        buf.append(0)
    del array
    buf.append(0)


def test_refused_messages_hold_nothing() -> None:
    good = bytes(tw.encode(tw.Request({"x": LARGE, "s": [b"a", b"b"]}, ["y"])))
    before = holds()
    for end in range(0, len(good), 7):
        buf = bytearray(good[:end])
        with pytest.raises(tw.DecodeError) as caught:
            tw.decode(buf, tw.Request)
        del caught
        buf.append(0)
        assert holds() == before


def test_a_mapped_file_stays_open(tmp_path: Path) -> None:
    path = tmp_path / "message"
    path.write_bytes(bytes(tw.encode(tw.Request({"x": LARGE}))))
    with path.open("rb") as file:
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    array = tw.decode(mapped, tw.Request).inputs["x"]
    with pytest.raises(BufferError):
        mapped.close()
    path.unlink()
    assert array.tolist() == LARGE.tolist()
    del array
    mapped.close()


def test_decoded_arrays_go_out_through_dlpack() -> None:
    frame = tw.encode(tw.Request({"x": LARGE}))
    chunk = tw.Chunk(frame.nbytes)
    frame.write_into(chunk)
    array = tw.decode(chunk, tw.Request).inputs["x"]
    other = np.from_dlpack(array)
    assert other.ctypes.data == array.ctypes.data
    del array, chunk
    assert other.tolist() == LARGE.tolist()


# Held and Chunk themselves


def test_held() -> None:
    lender = bytearray(b"abcdef")
    held = tw.Held(lender)
    assert (len(held), held.nbytes, held.readonly, held.address) == (6, 6, False, address(lender))
    assert repr(held) == "<Held of 6 bytes>"
    view = memoryview(held)
    del held
    with pytest.raises(BufferError):
        lender.append(0)
    view[0] = 0x41
    assert lender == b"Abcdef"
    view.release()
    lender.append(0)
    assert tw.Held(b"x").readonly
    for refused in ("text", 3, None):
        with pytest.raises(TypeError):
            tw.Held(refused)
    with pytest.raises((BufferError, ValueError)):
        tw.Held(memoryview(b"abc")[::2])


def test_a_held_in_a_cycle_is_collected() -> None:
    class Cycle:
        pass

    lender = bytearray(100)
    cycle: Any = Cycle()
    cycle.held, cycle.self = tw.Held(lender), cycle
    gone = weakref.ref(cycle)
    del cycle
    gc.collect()
    assert gone() is None
    lender.append(0)


@pytest.mark.parametrize("nbytes", [0, 1, 63, 65536, 65537, 2**21 - 1, 2**21, 2**21 + 1, 3 * 2**21])
def test_chunk(nbytes: int) -> None:
    before = tw.pool_stats()
    chunk = tw.Chunk(nbytes)
    assert (len(chunk), chunk.nbytes, chunk.address % 64) == (nbytes, nbytes, 0)
    assert chunk.address % 2**21 == 0 or nbytes < 2**21
    assert repr(chunk) == f"<Chunk of {nbytes:,} bytes>"
    view = memoryview(chunk)
    assert (view.nbytes, view.format, view.readonly) == (nbytes, "B", False)
    view[:] = b"\x5a" * nbytes
    assert bytes(view[-3:]) == b"\x5a" * min(3, nbytes)
    during = tw.pool_stats()
    assert during["live_chunks"] == before["live_chunks"] + 1
    assert during["live_bytes"] == before["live_bytes"] + nbytes


def test_chunks_of_impossible_sizes() -> None:
    with pytest.raises(ValueError, match="0 or more bytes, not -1"):
        tw.Chunk(-1)
    for nbytes in (2**62, sys.maxsize):
        with pytest.raises(MemoryError, match=f"no memory for a Chunk of {nbytes} bytes"):
            tw.Chunk(nbytes)
    with pytest.raises(OverflowError):
        tw.Chunk(2**64)
