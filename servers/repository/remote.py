"""A base path that is a URL: looked at by the clock, its versions brought here, a slow one holding up nobody else."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import threading
import time
from collections import defaultdict
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.aside import run_aside, wait_for
from tensorwire.servers.repository.config import ModelConfig, VersionPolicy
from tensorwire.servers.repository.download import find_pin, full_disk, is_url
from tensorwire.servers.repository.kept import Kept, Lease
from tensorwire.servers.repository.layout import Stamp, look
from tensorwire.servers.repository.remote_files import Away, RemoteFiles, State
from tensorwire.servers.repository.scan import Scan
from tensorwire.servers.resident import size_text

__all__ = ["RemoteSource"]

_log = logging.getLogger("tensorwire.repository")
_WAIT = 2.0  # seconds for an answer; after that a scan goes by what is known already
_HANGS = 60.0  # seconds after which a look that has not ended is told as a problem
_SHARE = 9  # so many times as long as a look has taken nothing is asked, so that a slow place is not asked all the time
_LONGEST_PAUSE = 60.0
_FIRST_RETRY = 1.0  # seconds after a failed download; each further pause is twice as long
_AT_ONCE = 2  # downloads of one source
_AT_ONCE_FROM_HOST = 4

_hosts: defaultdict[str, threading.BoundedSemaphore] = defaultdict(
    lambda: threading.BoundedSemaphore(_AT_ONCE_FROM_HOST)
)


@dataclass(frozen=True, slots=True)
class _Listing:
    """What one look has found: versions by the driver's names, and of those wanted their files, or why not."""

    names: Mapping[int, str]
    states: Mapping[int, State | str]


@dataclass(slots=True)
class _Version:
    """One state of one version on its way here. ``since``: time.monotonic() at which it was seen first."""

    name: str
    state: State
    place: Path
    since: float = field(default_factory=time.monotonic)
    stop: threading.Event = field(default_factory=threading.Event)
    download: Future[Lease] | None = None
    error: str = ""
    retry: float = 0.0
    pause: float = _FIRST_RETRY


class RemoteSource:
    """The versions under a URL, each fetched into the cache when its files have not changed for the settle time.

    Scans tell of a version once it is here whole. Looks and downloads run on threads that nobody waits for, so that a
    place that hangs or has gone away costs nothing but its news.
    """

    base = None

    def __init__(self, path: str, cache: Path) -> None:
        self.path = path
        self._files = RemoteFiles(path)
        self._kept = Kept(cache, path.partition("#")[0] if is_url(path) else path)
        self._looking: Future[_Listing] | None = None
        self._began = 0.0
        self._next = 0.0
        self._listing: _Listing | None = None
        self._problem = ""
        self._before: dict[Path, Stamp] = {}
        self._versions: dict[int, _Version] = {}
        self._leases: dict[Path, Lease] = {}
        self._idle: set[Path] = set()
        self._litter = True
        self._pending = False

    @property
    def busy(self) -> bool:
        return self._pending

    def doubt(self, names: Collection[str] | None) -> None:
        pass  # every look is at all files

    async def scan(self, config: ModelConfig, in_use: Collection[Path], older: int = 0) -> Scan:
        latest = config.policy.latest
        if older and latest:
            config = replace(config, policy=replace(config.policy, latest=latest + older))
        await self._refresh(config.policy)
        seen = Scan()
        self._pending = False
        if self._problem:
            seen.problem = self._problem
            if self._listing is None:
                self._go_by_before(config.policy, seen)
        elif self._listing is None:
            self._pending = True
        else:
            self._compare(self._listing, config, seen)
            self._release({*in_use, *seen.paths.values()})
            if self._litter and not self._pending:  # what is pending may be in the cache, unused as yet
                self._litter = False
                run_aside(partial(self._kept.prune, {*self._leases, *seen.paths.values()}))
        if older and latest:
            seen.wanted = seen.wanted[-latest:]
        return seen

    def close(self) -> None:
        for number in list(self._versions):
            self._abandon(number)
        for lease in self._leases.values():
            lease.close()
        self._leases.clear()

    async def _refresh(self, policy: VersionPolicy) -> None:
        """Look, unless a look is under way or has just ended, and wait a little for its end."""
        if self._looking is None:
            if time.monotonic() < self._next:
                return
            self._began = time.monotonic()
            self._looking = run_aside(partial(self._look, policy))
        if not await wait_for(self._looking, _WAIT):
            if time.monotonic() - self._began > _HANGS:
                await self._miss(f"{self._files.shown}: no answer for {_HANGS:g} s")
            return
        looked, self._looking = self._looking, None
        now = time.monotonic()
        self._next = now + min(_SHARE * (now - self._began), _LONGEST_PAUSE)
        try:
            self._listing, self._problem = looked.result(), ""
        except Away as error:
            await self._miss(str(error))
        except ModelError as error:
            self._problem = str(error)

    async def _miss(self, problem: str) -> None:
        """Note that the place is away; at the start what an earlier server has left in the cache is as good as any."""
        self._problem = problem
        if self._listing is None and not self._before:
            self._before = await asyncio.to_thread(self._kept_before)

    def _kept_before(self) -> dict[Path, Stamp]:
        found: dict[Path, Stamp] = {}
        with contextlib.suppress(OSError):
            for place in self._kept.whole().values():
                there = look(place)
                found[place] = Stamp(there.files, there.nbytes, 0, int(place.name.partition("-")[2], 16))
        return found

    def _go_by_before(self, policy: VersionPolicy, seen: Scan) -> None:
        places = {int(place.name.partition("-")[0]): place for place in self._before}
        seen.wanted = policy.choose(places)
        for number in seen.wanted:
            place = seen.paths[number] = places[number]
            if place not in self._leases:
                with contextlib.suppress(OSError):
                    lease = self._kept.hold(place)
                    if lease is not None:
                        self._leases[place] = lease
            if place in self._leases:
                seen.stamps[number] = self._before[place]

    def _look(self, policy: VersionPolicy) -> _Listing:
        names = self._files.versions()
        states: dict[int, State | str] = {}
        for number in policy.choose(names):
            try:
                states[number] = self._files.find(names[number])
            except Away:
                raise
            except ModelError as error:
                states[number] = str(error)
        return _Listing(names, states)

    def _compare(self, listing: _Listing, config: ModelConfig, seen: Scan) -> None:
        seen.wanted = config.policy.choose(listing.names)
        if not seen.wanted:
            asked = ", ".join(map(str, config.policy.specific))
            seen.problem = f"{self._files.shown}: {f'no version {asked}' if asked else 'no version folder'} in it"
        for number in self._versions.keys() - set(seen.wanted):
            self._abandon(number)
        for number in reversed(seen.wanted):  # the newest is fetched first
            state = listing.states.get(number)
            if isinstance(state, str):
                seen.paths[number] = self._kept.place(number, "")
                seen.unreadable[number] = state
            elif state is None:
                self._pending = True  # another policy than the one of the look
            else:
                self._advance(number, self._version(number, listing.names[number], state), config, seen)

    def _version(self, number: int, name: str, state: State) -> _Version:
        version = self._versions.get(number)
        if version is None or version.state.digest != state.digest:
            self._abandon(number)
            version = self._versions[number] = _Version(name, state, self._kept.place(number, state.digest))
        return version

    def _advance(self, number: int, version: _Version, config: ModelConfig, seen: Scan) -> None:
        """Note what has become of a version, and begin to fetch it if it is time."""
        seen.paths[number] = version.place
        if version.download is not None and version.download.done():
            self._arrived(version, version.download)
        if version.place in self._leases:
            # Complete, so its age is no question: the digest alone tells it from other states.
            state = version.state
            seen.stamps[number] = Stamp(len(state.files), state.nbytes, 0, int(state.digest, 16))
            return
        if version.error:
            seen.unreadable[number] = version.error
        now = time.monotonic()
        if version.download is not None:
            self._pending = True
        elif now >= version.retry and self._complete(version, config, now, number, seen):
            self._pending = True
            under_way = [other for other in self._versions.values() if other.download is not None]
            if len(under_way) < _AT_ONCE:
                version.download = run_aside(partial(self._fetch, version))

    def _complete(self, version: _Version, config: ModelConfig, now: float, number: int, seen: Scan) -> bool:
        state = version.state
        if version.place.is_dir():
            return True
        if config.ready_file and state.files and state.files[0].name.rstrip("/") != version.name.rstrip("/"):
            return any(file.parts == (config.ready_file,) for file in state.files)
        if now - version.since < config.settle:
            self._pending = True
            return False
        if not state.files:
            seen.unreadable[number] = f"{self._files.shown}: the folder of version {number} is empty"
        return bool(state.files)

    def _arrived(self, version: _Version, download: Future[Lease]) -> None:
        version.download, self._litter = None, True
        try:
            self._leases[version.place] = download.result()
        except ModelError as error:
            version.error = str(error)
            version.retry = time.monotonic() + version.pause
            version.pause = min(version.pause * 2, _LONGEST_PAUSE)
        else:
            version.error = ""

    def _abandon(self, number: int) -> None:
        """A state of a version is of no interest any more; what is in use of it stays."""
        version = self._versions.pop(number, None)
        if version is not None:
            version.stop.set()
            if version.download is not None:
                version.download.add_done_callback(_close_result)

    def _release(self, needed: Collection[Path]) -> None:
        """Let go of what is neither wanted nor in use, a scan later: the last requests may still be running."""
        unused = self._leases.keys() - set(needed)
        gone = unused & self._idle
        self._idle = unused - gone
        for path in gone:
            self._leases.pop(path).close()
            self._litter = True

    def _fetch(self, version: _Version) -> Lease:
        """On a thread of its own."""
        state, began = version.state, time.monotonic()
        host = _hosts[urlsplit(self.path).netloc]
        while not host.acquire(timeout=0.1):
            if version.stop.is_set():
                raise ModelError(f"{self._files.shown}: no longer needed")
        try:
            fetched = False

            def write(folder: Path) -> None:
                nonlocal fetched
                fetched = True
                self._write(version, folder)

            lease = self._kept.fill(version.place, write, state.is_whole, version.stop)
        finally:
            host.release()
        if fetched:
            size, seconds = size_text(state.nbytes), time.monotonic() - began
            _log.info("%s: %d files, %s, fetched in %.1f s", self._files.shown, len(state.files), size, seconds)
        return lease

    def _write(self, version: _Version, folder: Path) -> None:
        state, shown = version.state, self._files.shown
        pin = find_pin(self.path, shown) if is_url(self.path) else None
        free = shutil.disk_usage(folder).free
        if state.nbytes > free:
            reason = full_disk(self._kept.folder, f"{state.nbytes:,} bytes are needed, {free:,} are free")
            raise ModelError(f"{shown}: {reason}")
        for file in state.files:
            path = folder.joinpath(*file.parts)
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._files.get(file, path, version.stop)
            if pin is not None:
                _check_pin(path, pin, shown, len(state.files))
        if self._files.find(version.name).digest != state.digest:
            raise ModelError(f"{shown}: its files have changed while they were fetched")


def _check_pin(path: Path, pin: str, shown: str, files: int) -> None:
    import hashlib

    if files != 1:
        raise ModelError(f"{shown}: #sha256= is for one file, not for a folder")
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != pin:
        raise ModelError(f"{shown}: its SHA-256 is {digest}, not {pin}")


def _close_result(download: Future[Lease]) -> None:
    if download.exception() is None:
        download.result().close()
