"""What has been brought here from one URL: whole folders, shared by all servers that use the cache."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import threading
from collections.abc import Callable, Collection
from pathlib import Path

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.download import full_disk, url_folder

__all__ = ["Kept", "Lease"]

_STEM = re.compile(r"(\d{1,19}-[0-9a-f]{16})(?:\.lock|\.half|\.gone)?")
_PAUSE = 0.1  # seconds between two tries for a lock


class Lease:
    """Holds a folder: nobody removes it before ``close``. Can be closed twice."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Kept:
    """The folders of one URL in a cache, one for each state of each version.

    A folder NUMBER-DIGEST is there when it is whole. NUMBER-DIGEST.lock is held exclusively by who fills or removes
    it, shared by those who use it; NUMBER-DIGEST.half is not whole yet, or never will be.
    """

    def __init__(self, cache: Path, url: str) -> None:
        self.folder = url_folder(cache, url)

    def place(self, number: int, digest: str) -> Path:
        """The folder of one state of a version, there or not."""
        return self.folder / f"{number}-{digest}"

    def fill(
        self, place: Path, write: Callable[[Path], None], is_whole: Callable[[Path], bool], stop: threading.Event
    ) -> Lease:
        """A lease of a folder, filled by ``write`` unless it is whole; waits while another process fills it.

        Raises ModelError of ``write``, when the disk is full or the cache cannot be used, and when ``stop`` is set.
        """
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            while not stop.is_set():
                lease = self._try_fill(place, write, is_whole)
                if lease is not None:
                    return lease
                stop.wait(_PAUSE)
        except OSError as error:
            if error.errno == errno.ENOSPC:
                raise ModelError(full_disk(self.folder, error.strerror)) from error
            raise ModelError(f"{error.filename or self.folder}: cannot be kept: {error.strerror or error}") from error
        raise ModelError("no longer needed")

    def whole(self) -> dict[int, Path]:
        """The folder of each version that is there, the latest when there are several. Raises OSError."""
        if not self.folder.exists():
            return {}
        places = [path for path in self.folder.iterdir() if _STEM.fullmatch(path.name) and not path.suffix]
        places.sort(key=lambda place: place.stat().st_mtime_ns)
        return {int(place.name.partition("-")[0]): place for place in places}

    def hold(self, place: Path) -> Lease | None:
        """A lease of a folder that is there; None when it is not, or no longer. Raises OSError."""
        descriptor = self._lock(place, fcntl.LOCK_SH)
        if descriptor is None:
            return None
        if place.is_dir():
            return Lease(descriptor)
        os.close(descriptor)
        return None

    def prune(self, keep: Collection[Path] = ()) -> None:
        """Remove what nobody uses, but for the folders to ``keep``: whoever uses them may let go of them meanwhile, and
        look for them when it starts again. Raises nothing: what cannot be removed stays.
        """
        with contextlib.suppress(OSError):
            stems = {match[1] for path in self.folder.iterdir() if (match := _STEM.fullmatch(path.name))}
            for stem in stems - {place.name for place in keep}:
                self._remove(self.folder / stem)

    def _try_fill(self, place: Path, write: Callable[[Path], None], is_whole: Callable[[Path], bool]) -> Lease | None:
        """None: another process is at work on it, or has just removed it."""
        descriptor = self._lock(place, fcntl.LOCK_SH if is_whole(place) else fcntl.LOCK_EX)
        if descriptor is None:
            if place.is_dir() and not is_whole(place):
                raise ModelError(f"{place}: damaged, and another server uses it")
            return None
        lease = Lease(descriptor)
        try:
            if not is_whole(place):
                self._write(place, write)
            # Not atomic: between the two locks another process may have one, and remove the folder.
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            if self._is_current(place, descriptor) and is_whole(place):
                return lease
        except BaseException:
            lease.close()
            raise
        lease.close()
        return None

    def _write(self, place: Path, write: Callable[[Path], None]) -> None:
        half = place.with_name(f"{place.name}.half")
        _clear(half)
        half.mkdir(mode=0o700)
        try:
            write(half)
            _sync(half)
            if place.exists():
                _clear(place)
            half.rename(place)
            _sync_one(self.folder)
        finally:
            shutil.rmtree(half, ignore_errors=True)

    def _remove(self, place: Path) -> None:
        descriptor = self._lock(place, fcntl.LOCK_EX)
        if descriptor is None:
            return
        try:
            # Renamed first, so that a folder of this name is never half removed.
            gone = place.with_name(f"{place.name}.gone")
            _clear(gone)
            with contextlib.suppress(FileNotFoundError):
                place.rename(gone)
            _clear(gone)
            _clear(place.with_name(f"{place.name}.half"))
            self._lock_file(place).unlink()
        finally:
            os.close(descriptor)

    def _lock(self, place: Path, how: int) -> int | None:
        """A descriptor that holds the lock of a place; None when others have it, or have removed it meanwhile."""
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._lock_file(place), flags, 0o600)
        try:
            fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            if self._is_current(place, descriptor):
                return descriptor
        except BlockingIOError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        return None

    def _is_current(self, place: Path, descriptor: int) -> bool:
        """The lock file is still the one that others would lock."""
        try:
            return os.path.samestat(self._lock_file(place).stat(), os.fstat(descriptor))
        except FileNotFoundError:
            return False

    def _lock_file(self, place: Path) -> Path:
        return place.with_name(f"{place.name}.lock")


def _clear(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        shutil.rmtree(path)


def _sync(folder: Path) -> None:
    """Have everything in a folder on disk before its name says that it is whole."""
    for top, _, names in os.walk(folder):
        for name in names:
            _sync_one(Path(top) / name)
        _sync_one(Path(top))


def _sync_one(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
