"""A cache of folders that several servers use: filled once, never half, removed when nobody uses it."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from processes import Start, first_line
from waiting import wait_until

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.kept import Kept, Lease

URL = "s3://bucket/m"
DIGEST = "0123456789abcdef"


def fill(kept: Kept, write: Callable[[Path], None], number: int = 1, stop: threading.Event | None = None) -> Lease:
    def is_whole(folder: Path) -> bool:
        return (folder / "model").is_file()

    return kept.fill(kept.place(number, DIGEST), write, is_whole, stop or threading.Event())


def write_model(folder: Path) -> None:
    (folder / "model").write_text("whole")


def names(kept: Kept) -> list[str]:
    return sorted(path.name for path in kept.folder.iterdir())


def test_a_folder_is_there_when_it_is_whole_and_private(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "cache", URL)
    place = kept.place(1, DIGEST)

    def write(folder: Path) -> None:
        assert not place.exists()
        write_model(folder)

    lease = fill(kept, write)
    assert (place / "model").read_text() == "whole"
    assert place.stat().st_mode & 0o077 == 0 and kept.folder.stat().st_mode & 0o077 == 0
    fill(kept, lambda _: pytest.fail("it is there")).close()
    lease.close()
    assert names(kept) == [f"1-{DIGEST}", f"1-{DIGEST}.lock"]


def test_threads_fill_a_folder_once(tmp_path: Path) -> None:
    kept = Kept(tmp_path, URL)
    start = threading.Barrier(8)
    filled, leases = [], []

    def write(folder: Path) -> None:
        filled.append(folder)
        write_model(folder)

    def work() -> None:
        start.wait()
        leases.append(fill(kept, write))

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(filled) == 1 and len(leases) == 8
    for lease in leases:
        lease.close()


def test_what_is_used_stays_and_the_rest_goes(tmp_path: Path) -> None:
    kept = Kept(tmp_path, URL)
    used = fill(kept, write_model, 1)
    fill(kept, write_model, 2).close()
    (kept.folder / f"3-{DIGEST}.half").mkdir()  # a server was killed while it fetched
    (kept.folder / f"4-{DIGEST}.gone").mkdir()  # and one while it removed
    (kept.folder / "about.json").touch()  # not of this kind
    kept.prune()
    assert names(kept) == [f"1-{DIGEST}", f"1-{DIGEST}.lock", "about.json"]
    used.close()
    kept.prune({kept.place(1, DIGEST)})
    assert names(kept) == [f"1-{DIGEST}", f"1-{DIGEST}.lock", "about.json"]
    kept.prune()
    assert names(kept) == ["about.json"]
    Kept(tmp_path / "none", URL).prune()


SCRIPT = """
import sys, threading
from pathlib import Path
from tensorwire.servers.repository.kept import Kept

kept = Kept(Path(sys.argv[1]), sys.argv[2])

def write(folder):
    print("filling", flush=True)
    sys.stdin.readline()
    (folder / "model").write_text("theirs")

lease = kept.fill(kept.place(1, sys.argv[3]), write, lambda folder: (folder / "model").is_file(), threading.Event())
print("holding", flush=True)
sys.stdin.readline()
"""


def test_another_process_is_waited_for_and_its_folder_not_removed(tmp_path: Path) -> None:
    kept = Kept(tmp_path, URL)
    leases: list[Lease] = []
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(tmp_path), URL, DIGEST],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        assert process.stdout.readline() == "filling\n"
        kept.prune()
        assert f"1-{DIGEST}.half" in names(kept), "what another one is filling stays"
        waiting = threading.Thread(target=lambda: leases.append(fill(kept, lambda _: pytest.fail("filled twice"))))
        waiting.start()
        print(file=process.stdin, flush=True)
        assert process.stdout.readline() == "holding\n"
        waiting.join()
        assert (kept.place(1, DIGEST) / "model").read_text() == "theirs"
        leases[0].close()
        kept.prune()
        assert f"1-{DIGEST}" in names(kept), "the other process still uses it"
    finally:
        process.kill()
        process.communicate()
    kept.prune()
    assert names(kept) == []


def test_a_process_that_is_killed_leaves_nothing_that_stays(tmp_path: Path, start: Start) -> None:
    kept = Kept(tmp_path / "cache", URL)
    process = start(
        "-c", SCRIPT.replace("sys.stdin.readline()", "threading.Event().wait()"), str(tmp_path / "cache"), URL, DIGEST
    )
    assert first_line(process) == "filling"
    process.kill()
    process.wait()
    assert f"1-{DIGEST}.half" in names(kept)
    fill(kept, write_model).close()
    assert names(kept) == [f"1-{DIGEST}", f"1-{DIGEST}.lock"]


def test_a_failure_leaves_nothing_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = Kept(tmp_path, URL)

    def breaks(folder: Path) -> None:
        write_model(folder)
        raise ModelError("the connection broke")

    with pytest.raises(ModelError, match="the connection broke"):
        fill(kept, breaks)
    assert names(kept) == [f"1-{DIGEST}.lock"]

    def is_full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", is_full)
        with pytest.raises(ModelError, match=f"the disk of {kept.folder} is full: No space left on device"):
            fill(kept, write_model)
    assert names(kept) == [f"1-{DIGEST}.lock"]
    fill(kept, write_model).close()


def test_a_damaged_folder_is_filled_again_unless_it_is_used(tmp_path: Path) -> None:
    kept = Kept(tmp_path, URL)
    other = fill(kept, write_model)
    (kept.place(1, DIGEST) / "model").unlink()
    with pytest.raises(ModelError, match="damaged, and another server uses it"):
        fill(kept, write_model)
    other.close()
    fill(kept, write_model).close()
    assert (kept.place(1, DIGEST) / "model").read_text() == "whole"


def test_waiting_can_be_ended_and_a_bad_cache_is_named(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "cache", URL)
    stop, filling, full = threading.Event(), threading.Event(), threading.Event()
    errors: list[str] = []

    def slow(folder: Path) -> None:
        filling.set()
        assert full.wait(60)
        write_model(folder)

    def wait() -> None:
        try:
            fill(kept, write_model, stop=stop)
        except ModelError as error:
            errors.append(str(error))

    threads = [threading.Thread(target=lambda: fill(kept, slow).close())]
    threads[0].start()
    assert filling.wait(60)
    threads.append(threading.Thread(target=wait))
    threads[1].start()
    stop.set()
    wait_until(lambda: errors == ["no longer needed"])
    full.set()
    for thread in threads:
        thread.join()
    (tmp_path / "file").touch()
    with pytest.raises(ModelError, match="cannot be kept: Not a directory"):
        fill(Kept(tmp_path / "file", URL), write_model)
