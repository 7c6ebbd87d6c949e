"""Messages in files and in segments."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest

import tensorwire as tw

REQUEST = tw.Request(
    {"x": np.arange(100_000, dtype=np.float32), "s": np.array([b"a\0", b"", b"b"], object), "i": np.arange(3)},
    outputs=["y"],
    model="m",
)


def test_a_saved_message_is_the_wire_message(tmp_path: Path) -> None:
    path = tmp_path / "request.tw"
    frame = tw.encode(REQUEST)
    assert tw.save(path, REQUEST) == frame.nbytes
    assert path.read_bytes() == bytes(frame)
    assert tw.load(path) == tw.load(str(path), tw.Request) == REQUEST


def test_a_loaded_message_is_mapped_not_read(tmp_path: Path) -> None:
    path = tmp_path / "request.tw"
    tw.save(path, REQUEST)
    x = tw.load(path, tw.Request).inputs["x"]
    maps = [line.split() for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]
    (low, high) = (int(edge, 16) for edge in maps[0][0].split("-"))
    assert low <= x.ctypes.data < high
    assert not x.flags.writeable
    del x
    assert str(path) not in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("message", [tw.MetadataRequest(), tw.Response([np.arange(9)]), tw.Metadata("n")])
def test_every_kind_of_message(tmp_path: Path, message: tw.Response) -> None:
    tw.save(tmp_path / "m.tw", message)
    assert tw.load(tmp_path / "m.tw", type(message)) == message


def test_bad_files_are_decode_errors(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("not a message")
    for name in ("empty", "text"):
        with pytest.raises(tw.DecodeError):
            tw.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        tw.load(tmp_path / "absent")
    tw.save(tmp_path / "m", REQUEST)
    with pytest.raises(tw.LimitError, match="max_tensors"):
        tw.load(tmp_path / "m", tw.Request, max_tensors=2)


def test_tofile_takes_file_objects() -> None:
    file = io.BytesIO(b"before")
    file.seek(0, io.SEEK_END)
    frame = tw.encode(REQUEST)
    assert frame.tofile(file) == frame.nbytes
    assert file.getvalue() == b"before" + bytes(frame)


def test_tofile_goes_on_after_short_writes() -> None:
    class Slow(io.RawIOBase):
        def __init__(self) -> None:
            self.taken = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data: memoryview) -> int:  # type: ignore[override]
            self.taken += data[:7000]
            return min(len(data), 7000)

    file = Slow()
    frame = tw.encode(REQUEST)
    frame.tofile(file)  # type: ignore[arg-type]
    assert bytes(file.taken) == bytes(frame)


@pytest.mark.parametrize("size", [1, 7, 64, 4096, 10**9])
def test_segments_are_gathered_once(size: int) -> None:
    small = tw.Request({"x": np.arange(300, dtype=np.int16)}, model="m")
    data = bytes(tw.encode(small))
    segments = [data[i : i + size] for i in range(0, len(data), size)]
    before = tw.pool_stats()
    request = tw.decode(segments, tw.Request)
    assert request == small
    assert tw.pool_stats()["live_chunks"] == before["live_chunks"] + 1
    assert request.inputs["x"].flags.writeable
    assert request.inputs["x"].ctypes.data % 64 == 0
    del request
    assert tw.pool_stats() == {**tw.pool_stats(), "live_chunks": before["live_chunks"], "holds": before["holds"]}


def test_a_frames_buffers_are_segments() -> None:
    assert tw.decode(tw.encode(REQUEST).buffers, tw.Request) == REQUEST


def test_no_segments_are_no_message() -> None:
    with pytest.raises(tw.DecodeError, match="0 bytes"):
        tw.decode([], tw.Request)
