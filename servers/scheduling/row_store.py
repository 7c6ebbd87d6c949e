"""Bytes by key in a folder that several processes share: LMDB holds them, BLAKE3 names and checks them.

LMDB's rules for processes and threads: http://www.lmdb.tech/doc/
"""

from __future__ import annotations

import fcntl
import logging
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorwire.servers.model import ModelError

__all__ = ["RowStore"]

_log = logging.getLogger("tensorwire.cache")

_FOLDER = "tensorwire-rows"
_MARK, _FORMAT = b"tensorwire rows", b"1"  # shorter than any digest, so no key of a row
_DIGEST = 32
_MOST_WAITING = 64 << 20  # bytes on their way to the disk; what comes beyond is not kept
_READERS = 1024


class RowStore:
    """Values of any length under keys of 32 bytes, in ``folder``, at most ``size`` bytes of disk in all.

    A damaged file is replaced by an empty one, with a warning; a value that was damaged counts as not there. What
    fails later (a full file, a full disk) is logged once, and nothing is stored from then on. ``get``, ``put`` and
    ``digest`` may be called by any thread. ``stored`` counts values that were written, ``dropped`` those that were
    not. Raises ModelError when the libraries are missing, and when the folder cannot be used.
    """

    def __init__(self, folder: Path, *, size: int) -> None:
        try:
            import blake3
            import lmdb
        except ImportError as error:
            raise ModelError(
                f"the row cache needs {error.name}, which is not installed: pip install 'tensorwire[cache]'"
            ) from None
        self.path = folder / _FOLDER
        self.stored = 0
        self.dropped = 0
        self._lmdb: Any = lmdb
        self._hasher: Any = blake3.blake3
        self._waiting = 0
        self._full = False
        self._closed = False
        self._told: set[str] = set()
        self._lock = threading.Lock()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with _alone(folder):
                self._env: Any = self._open(size)
        except (OSError, lmdb.Error) as error:
            raise ModelError(f"{self.path}: the row cache cannot be opened: {error}") from None
        self._writer = ThreadPoolExecutor(1, "row-cache")

    def digest(self, data: bytes) -> Any:
        """A hash to go on from: ``copy()``, ``update(bytes)``, ``digest()``, which is a key."""
        return self._hasher(data)

    def get(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values that are there, as copies."""
        env = self._env
        if env is None:
            return {}
        try:
            with env.begin() as txn:
                found = {key: txn.get(key) for key in keys}
        except self._lmdb.Error as error:
            self._tell("cannot be read", error)
            return {}
        values = {}
        for key, value in found.items():
            if value is not None and self._seal(key, memoryview(value)[_DIGEST:]) == value[:_DIGEST]:
                values[key] = value[_DIGEST:]
        return values

    def put(self, values: Mapping[bytes, bytes]) -> None:
        """Store values soon, on a thread of the store's own."""
        nbytes = sum(map(len, values.values()))
        with self._lock:
            if self._full or self._closed or self._waiting + nbytes > _MOST_WAITING:
                self.dropped += len(values)
                return
            self._waiting += nbytes
            self._writer.submit(self._write, values, nbytes)

    def flush(self) -> None:
        """Wait until everything is stored that was given so far."""
        self._writer.submit(int).result()

    def close(self) -> None:
        """Store what is waiting, and let go of the file when its last reader is done. Can be called twice."""
        with self._lock:
            self._closed = True
        self._writer.shutdown()
        self._env = None  # not closed: a thread may be reading

    def _write(self, values: Mapping[bytes, bytes], nbytes: int) -> None:
        written = 0
        try:
            if not self._full:
                with self._env.begin(write=True) as txn:
                    for key, value in values.items():
                        written += txn.put(key, self._seal(key, value) + value)
        except self._lmdb.Error as error:
            written = 0
            self._full = True
            full = isinstance(error, self._lmdb.MapFullError)
            self._tell("is full: remove the folder to begin anew" if full else "cannot be written to", error)
        finally:
            with self._lock:
                self._waiting -= nbytes
                self.stored += written
                self.dropped += len(values) - written if self._full else 0

    def _seal(self, key: bytes, value: bytes | memoryview) -> bytes:
        hasher = self._hasher(key)
        hasher.update(value)
        return bytes(hasher.digest())

    def _open(self, size: int) -> Any:
        try:
            return self._opened(size)
        except (self._lmdb.InvalidError, self._lmdb.CorruptedError, self._lmdb.VersionMismatchError) as error:
            _log.warning("%s: the row cache is damaged (%s); it begins anew", self.path, error)
            shutil.rmtree(self.path)  # a process that has the files open keeps them, and shares no more
            return self._opened(size)

    def _opened(self, size: int) -> Any:
        # metasync: after a power cut the last rows may be missing, but the file is whole.
        env = self._lmdb.open(str(self.path), map_size=size, mode=0o600, metasync=False, max_readers=_READERS)
        pages = (env.info()["last_pgno"] + 1) * env.stat()["psize"]
        if (self.path / "data.mdb").stat().st_size < pages:  # LMDB would read beyond the end, which ends the process
            env.close()
            raise self._lmdb.CorruptedError("the file is too short")
        env.reader_check()
        with env.begin() as txn:
            mark, empty = txn.get(_MARK), not txn.stat()["entries"]
        if empty:
            with env.begin(write=True) as txn:
                txn.put(_MARK, _FORMAT)
        elif mark != _FORMAT:
            env.close()
            raise ModelError(f"{self.path}: not a row cache of this version; remove it, or name another folder")
        return env

    def _tell(self, what: str, error: Exception) -> None:
        if what not in self._told:
            self._told.add(what)
            _log.warning("%s: the row cache %s (%s); requests go on without", self.path, what, error)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from opening, and perhaps replacing, the same files meanwhile."""
    with (folder / f"{_FOLDER}.lock").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
