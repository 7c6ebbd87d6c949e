"""Files, segments and DLPack tensors that do not behave: refused, and nothing lost or held by it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorwire as tw

MESSAGE = tw.Request({"x": np.arange(1000, dtype="<f4"), "s": np.array([b"text"], object)}, ["y"])


def test_segments_that_are_none() -> None:
    before = tw.pool_stats()
    for short in ((), [b"", b""], [b"1234", b"123"]):
        with pytest.raises(tw.DecodeError, match="too few"):
            tw.decode(short)
    lender = bytearray(8)
    for segments in ([lender, "text"], [lender, 1], [lender, [b"nested"]]):
        with pytest.raises(TypeError):
            tw.decode(segments)  # type: ignore[call-overload]
    with pytest.raises((BufferError, ValueError)):
        tw.decode([lender, memoryview(lender)[::2]])
    lender.append(0)  # would raise BufferError, were it still exported
    assert tw.pool_stats()["holds"] == before["holds"]
    assert tw.pool_stats()["live_chunks"] == before["live_chunks"]


def test_a_message_that_cannot_be_encoded_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(tw.EncodeError):
        tw.save(tmp_path / "message", tw.Request([np.zeros(1, "M8[s]")]))
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_takes_no_more() -> None:
    class Full(io.RawIOBase):
        room = 1000

        def write(self, data: Any) -> int | None:  # type: ignore[override]
            taken = min(self.room, memoryview(data).nbytes)
            self.room -= taken
            return taken or None

    with pytest.raises(BlockingIOError, match=r"the file takes no more; [0-9]+ bytes are left"):
        tw.encode(MESSAGE).tofile(Full())  # type: ignore[arg-type]


def test_a_writer_that_says_nothing() -> None:
    class Silent:
        def __init__(self) -> None:
            self.taken: list[bytes] = []

        def write(self, data: Any) -> None:
            self.taken.append(bytes(data))

    frame, file = tw.encode(MESSAGE), Silent()
    frame.tofile(file)  # type: ignore[arg-type]
    assert b"".join(file.taken) == bytes(frame)


def test_files_for_text() -> None:
    for wrong in (io.StringIO(), None):
        with pytest.raises(TypeError):
            tw.encode(MESSAGE).tofile(wrong)  # type: ignore[arg-type]


class Foreign:
    """A framework's tensor, which offers DLPack and nothing else: whatever capsule it was given."""

    def __init__(self, capsule: Any) -> None:
        self.capsule = capsule

    def __dlpack__(self, **options: Any) -> Any:
        return self.capsule

    def __dlpack_device__(self) -> tuple[int, int]:
        return (1, 0)


def test_a_capsule_is_taken_once() -> None:
    array = np.arange(1000.0)
    before = sys.getrefcount(array)
    foreign = Foreign(tw.Tensor(array).__dlpack__())
    frame = tw.encode(tw.Request([foreign]))
    with pytest.raises(tw.EncodeError, match="input 0: Foreign is not an array: "):
        tw.encode(tw.Request([foreign]))
    assert sys.getrefcount(array) > before
    del frame, foreign
    assert sys.getrefcount(array) == before


def test_capsules_that_are_none() -> None:
    for capsule in (None, 7, b"bytes"):
        with pytest.raises(tw.EncodeError, match="input 0: Foreign is not an array: "):
            tw.encode(tw.Request([Foreign(capsule)]))


def test_a_tensor_without_an_array() -> None:
    with pytest.raises(TypeError, match="made without an array"):
        tw.Tensor.__new__(tw.Tensor).__dlpack__()


def test_memory_that_overlaps_itself_is_read_in_order() -> None:
    grid = np.arange(24, dtype="<i4").reshape(2, 3, 4)
    for given in (np.broadcast_to(grid[0], (5, 3, 4)), grid.T, grid[::-1, :, ::2], grid[:, :0]):
        buf = bytes(tw.encode(tw.Request([Foreign(tw.Tensor(given).__dlpack__())])))
        assert tw.decode(buf, tw.Request) == tw.Request([given])


def test_nothing_is_lost_over_many() -> None:
    array = np.arange(1000.0)

    def encoded() -> None:
        tw.encode(tw.Request([Foreign(tw.Tensor(array).__dlpack__()), tw.Tensor(array)]))

    encoded()  # The layout of the last message is kept, and its dtypes with it.
    before = sys.getrefcount(array), sys.getrefcount(array.dtype), tw.pool_stats()["holds"]
    for _ in range(2000):
        encoded()
        tw.Tensor(array).__dlpack__()
        np.from_dlpack(tw.Tensor(array))
    assert (sys.getrefcount(array), sys.getrefcount(array.dtype), tw.pool_stats()["holds"]) == before
