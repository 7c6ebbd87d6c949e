"""The folder of the row cache: kept, shared, full, damaged, somebody else's."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cached_models import SIZE, ask, proven, rows, same, summing, sums

from tensorwire.servers.model import ModelError
from tensorwire.servers.scheduling.row_cache import CachedModel
from tensorwire.servers.scheduling.row_store import RowStore


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def test_a_full_file_is_told_once_and_requests_go_on(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = RowStore(folder, size=1 << 18)
    model = summing()
    cached = proven(model, store)
    with caplog.at_level(logging.WARNING):
        for seed in range(20):
            batch = np.full((2, 10_000), seed, np.float32)
            batch[1] += 100
            same(ask(cached, x=batch), sums({"x": batch}))
            store.flush()
    assert caplog.text.count("the row cache is full: remove the folder to begin anew") == 1
    assert store.dropped > 0
    model.runs.clear()
    same(ask(cached, x=rows(-1000)), sums({"x": rows(-1000)}))  # what it had, it has
    assert not model.runs
    store.close()


def test_a_restart_keeps_rows(folder: Path) -> None:
    model = summing()
    for _ in range(2):
        store = RowStore(folder, size=SIZE)
        cached = CachedModel(model, store, "id")
        same(ask(cached, x=rows(1, 2)), sums({"x": rows(1, 2)}))
        cached.close()
        cached.close()
    assert model.rows == [2]


def filled(folder: Path) -> Path:
    """A cache's file with two rows."""
    store = RowStore(folder, size=SIZE)
    ask(CachedModel(summing(), store, "id"), x=np.arange(20_000, dtype=np.float32).reshape(2, -1))
    store.close()
    return folder / "tensorwire-rows/data.mdb"


@pytest.mark.parametrize("damage", ["garbage", "short", "empty", "text"])
def test_a_damaged_file_is_begun_anew(damage: str, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = filled(folder)
    data = file.read_bytes()
    file.write_bytes(
        {"garbage": os.urandom(len(data)), "short": data[: len(data) // 2], "empty": b"", "text": b"hi"}[damage]
    )
    model = summing()
    with caplog.at_level(logging.WARNING):
        store = RowStore(folder, size=SIZE)
    assert ("is damaged" in caplog.text) == (damage != "empty")
    for _ in range(2):
        same(ask(CachedModel(model, store, "id"), x=rows(1, 2)), sums({"x": rows(1, 2)}))
        store.flush()
    assert model.rows == [2]
    store.close()


def test_a_damaged_row_is_computed_again(folder: Path) -> None:
    file = filled(folder)
    data = bytearray(file.read_bytes())
    batch = np.arange(20_000, dtype=np.float32).reshape(2, -1)
    at = data.find(batch[1, 5000:5100].tobytes())  # its double is further on; this is of no output
    assert at < 0
    at = data.find((batch[1, 5000:5100] * 2).tobytes())
    assert at > 0
    data[at] ^= 1
    file.write_bytes(data)
    store = RowStore(folder, size=SIZE)
    model = summing()
    same(ask(CachedModel(model, store, "id"), x=batch), sums({"x": batch}))
    assert model.rows == [1]
    assert np.array_equal(model.runs[0]["x"], batch[1:])
    store.close()


def test_a_folder_that_cannot_be_used_is_named(folder: Path, tmp_path: Path) -> None:
    lmdb = pytest.importorskip("lmdb")
    place = folder / "tensorwire-rows"
    place.mkdir(parents=True)
    with lmdb.open(str(place)) as env, env.begin(write=True) as txn:
        txn.put(b"somebody", b"else's")
    with pytest.raises(ModelError, match="tensorwire-rows: not a row cache of this version; remove it"):
        RowStore(folder, size=SIZE)
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="file/tensorwire-rows: the row cache cannot be opened"):
        RowStore(tmp_path / "file", size=SIZE)


def test_a_missing_library_is_named(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(ModelError, match=r"needs lmdb, .* pip install 'tensorwire\[cache\]'"):
        RowStore(folder, size=SIZE)
    assert not folder.exists()


def test_a_full_disk_is_told_once_and_requests_go_on(folder: Path) -> None:
    """A limit on the size of files stands in for it; only a process of its own can have one."""
    code = (
        "import logging, resource, sys; from pathlib import Path\n"
        "from tensorwire.servers.scheduling.row_store import RowStore\n"
        "logging.basicConfig()\n"
        f"s = RowStore(Path(sys.argv[1]), size={SIZE})\n"
        "s.put({b'k' * 32: b'before'}); s.flush()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))\n"
        "for i in range(3): s.put({bytes([i]) * 32: b'v' * 100_000}); s.flush()\n"
        "assert s.get([b'k' * 32, bytes(32)]) == {b'k' * 32: b'before'}\n"
        "assert (s.stored, s.dropped) == (1, 3), (s.stored, s.dropped)\n"
        "s.close()"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("the row cache cannot be written to") == 1
    assert done.stderr.count("\n") == 1


def test_two_processes_share_a_folder(folder: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tensorwire.servers.scheduling.row_store import RowStore\n"
        f"s = RowStore(Path(sys.argv[1]), size={SIZE})\n"
        "me = sys.argv[2].encode(); print('open', flush=True); sys.stdin.readline()\n"
        "for i in range(200): s.put({me * 31 + bytes([i]): me * 999})\n"
        "s.flush(); print('put', flush=True); sys.stdin.readline()\n"
        "for k in b'ab':\n"
        "    keys = [bytes([k]) * 31 + bytes([i]) for i in range(200)]\n"
        "    assert s.get(keys) == {key: bytes([k]) * 999 for key in keys}\n"
        "s.close()"
    )
    both = [
        subprocess.Popen([sys.executable, "-c", code, str(folder), me], stdin=-1, stdout=-1, text=True) for me in "ab"
    ]
    for said in ("open\n", "put\n"):
        for process in both:
            assert process.stdout is not None
            assert process.stdout.readline() == said
        for process in both:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
    for process in both:
        process.communicate()
        assert process.returncode == 0
