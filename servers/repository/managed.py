"""One configured model: its versions on disk compared with those that serve, and the steps between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.layout import Stamp
from tensorwire.servers.repository.loading import Loader
from tensorwire.servers.repository.room import Room
from tensorwire.servers.repository.scan import Scan
from tensorwire.servers.repository.source import Source, open_source
from tensorwire.servers.repository.version import ModelVersion, State
from tensorwire.servers.resident import size_text

__all__ = ["ManagedModel", "Publisher"]

_log = logging.getLogger("tensorwire.repository")
_MOST_ENDED = 16  # versions that are remembered after their end, for whoever asks what became of them


class Publisher(Protocol):
    """Who sends requests to loaded versions; all methods are called on the event loop's thread."""

    def publish(self, name: str, number: int, model: Model) -> None:
        """Send requests to this version from now on; a model under the same number finishes what it has."""

    async def retire(self, name: str, number: int) -> None:
        """Send it no more; returns when it has answered what it had, and is closed."""

    async def rest(self, name: str, number: int) -> None:
        """As ``retire``, but who asks for it has it loaded again; also for a version that was not loaded yet."""

    def activity(self, name: str, number: int) -> tuple[int, float]:
        """Requests that a version has in flight, and time.perf_counter() of its last answer (0: none yet)."""


class ManagedModel:
    """Brings what serves in line with what is on disk, a step at a time; never two steps of one model at once.

    ``problem``: why the base path cannot be read, '' while it can. A version that serves goes on serving until one that
    is wanted serves, whatever happens to files: the exceptions are a transition of 'resource', asked for as such, and
    versions that make room for others, to come back when they are asked for.
    """

    def __init__(
        self,
        config: ModelConfig,
        loader: Loader,
        publisher: Publisher,
        is_model: Callable[[Path], bool],
        room: Room,
        cache: Path | None = None,
    ) -> None:
        self.config = config
        self.problem = ""
        self.versions: dict[int, ModelVersion] = {}
        self._loader = loader
        self._publisher = publisher
        self._room = room
        self._open = partial(open_source, is_model=is_model, cache=cache)
        self._source = self._open(config.path)
        self._seen: dict[int, tuple[Stamp, float]] = {}
        self._step = asyncio.Lock()

    @property
    def source(self) -> Source:
        """Where the versions come from: the base path of the configuration."""
        if self._source.path != self.config.path:
            self._source.close()
            self._source = self._open(self.config.path)
        return self._source

    @property
    def waiting(self) -> bool:
        """There are versions whose files are still changing, or on their way here."""
        return bool(self._seen) or self._source.busy

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that serve, ascending."""
        return tuple(sorted(number for number, version in self.versions.items() if version.serves))

    @property
    def ready(self) -> bool:
        """A version serves, or will when it is asked for."""
        return any(version.serves or version.asleep for version in self.versions.values())

    def residents(self) -> Iterator[_Resident]:
        """The versions that are in memory, and may leave."""
        return (_Resident(self, version) for version in self.versions.values() if version.serves)

    async def wake(self, number: int) -> None:
        """Load a version that is asleep, because somebody asks for it. Returns when it serves; otherwise its ``error``
        says why it does not.
        """
        async with self._step:
            version = self.versions.get(number)
            if version is not None and version.asleep and version.tried is not None:
                await self._load(number, version.path, version.tried, evict=True)

    async def reconcile(self, *, force: bool = False) -> None:
        """Look at the disk, and load and unload what that asks for. ``force``: load what is wanted again, complete or
        not. Raises nothing of what the disk or a model does.
        """
        async with self._step:
            there = [version.path for version in self.versions.values() if version.serves or version.asleep]
            seen = await self.source.scan(self.config, there)
            self._complain(seen.problem)
            for number, reason in seen.unreadable.items():
                self._unreadable(number, seen.paths[number], reason)
            due = [number for number in seen.stamps if self._due(number, seen, force)]
            if self.config.transition == "resource" and due:
                await self._replace(due, seen)
            else:
                # A model that serves may make others leave for its new version.
                evict = bool(self.available)
                await asyncio.gather(
                    *[self._load(number, seen.paths[number], seen.stamps[number], evict=evict) for number in due]
                )
                await self._retire_unwanted(seen.wanted)
            self._forget(seen)

    async def configure(self, config: ModelConfig) -> None:
        """Take a new configuration of the same name. Versions are loaded anew when what loads them has changed."""
        old = self.config
        changed = (old.path, old.engine, old.options) != (config.path, config.engine, config.options)
        self.config = config
        await self.reconcile(force=changed)

    async def close(self) -> None:
        """Unload every version."""
        async with self._step:
            await asyncio.gather(
                *[self._retire(version) for version in self.versions.values() if version.serves or version.asleep]
            )
            self._source.close()

    def _complain(self, problem: str) -> None:
        if problem and problem != self.problem:
            serving = ", ".join(map(str, self.available))
            _log.warning("model %r: %s%s", self.config.name, problem, f"; {serving} goes on serving" if serving else "")
        self.problem = problem

    def _unreadable(self, number: int, path: Path, reason: str) -> None:
        version = self.versions.get(number)
        if version is None:
            version = self.versions[number] = ModelVersion(self.config.name, number, path)
        if version.error == reason:
            return
        _log.error("model %r version %d: %s", self.config.name, number, reason)
        if version.serves:
            version.error = reason
        else:
            version.enter(State.END, reason)

    def _due(self, number: int, seen: Scan, force: bool) -> bool:
        """The version is to be loaded now."""
        stamp, version = seen.stamps[number], self.versions.get(number)
        if force:
            return True
        if version is not None and version.asleep:
            version.tried, version.path = stamp, seen.paths[number]
            return False
        if version is not None and version.short and self._room.fits(version.short):
            return True
        if version is not None and version.tried == stamp and (version.serves or version.error):
            return False
        return self._complete(number, seen.paths[number], stamp)

    def _complete(self, number: int, path: Path, stamp: Stamp) -> bool:
        config = self.config
        if config.ready_file and path.is_dir():
            return (path / config.ready_file).exists()
        before, since = self._seen.get(number, (None, 0.0))
        if before != stamp:
            since = time.monotonic()
            self._seen[number] = (stamp, since)
        quiet = max(stamp.age(), time.monotonic() - since)
        return stamp.files > 0 and quiet >= config.settle

    async def _load(self, number: int, path: Path, stamp: Stamp, *, evict: bool = False) -> bool:
        """Load a version, if there is room, or ``evict`` may make some; True when it serves then."""
        async with self._room.turn():
            version = self.versions.get(number)
            replaced = version is not None and version.serves
            if version is None or not (replaced or version.asleep):
                version = self.versions[number] = ModelVersion(self.config.name, number, path)
            version.tried, version.short = stamp, 0
            self._seen.pop(number, None)
            began = time.monotonic()
            expected = version.expected(stamp)
            if short := await self._room.make(expected, version, evict=evict):
                return await self._refuse(version, short, expected)
            if not replaced:
                version.enter(State.LOADING)
            try:
                model, grown = await self._loader.load(self.config, number, path)
            except ModelError as error:
                await self._fail(version, str(error))
                return False
            nbytes = stamp.nbytes if grown is None else grown
            if model.memory is not None:
                nbytes = model.memory
            # What it takes in this process is there already: only what others take has to fit beside it.
            if short := await self._room.make(nbytes, version, evict=evict):
                await asyncio.to_thread(model.close)
                del model
                return await self._refuse(version, short, nbytes)
            self._publisher.publish(self.config.name, number, model)
            version.take(model, nbytes, path)
        _log.info(
            "model %r version %d (%s) %s after %.1f s, takes about %s",
            self.config.name,
            number,
            version.engine,
            "is served with new files" if replaced else "is served",
            time.monotonic() - began,
            size_text(nbytes),
        )
        return True

    async def _fail(self, version: ModelVersion, reason: str) -> None:
        """It cannot be loaded; what serves under its number goes on."""
        _log.error("model %r version %d cannot be served: %s", self.config.name, version.number, reason)
        if version.serves:
            version.error = reason
            return
        version.enter(State.END, reason)
        if version.resting:
            version.resting = False
            await self._publisher.retire(version.name, version.number)

    async def _refuse(self, version: ModelVersion, reason: str, nbytes: int) -> bool:
        """There is no room: it waits for being asked for, where that is of use, or for room. Always False."""
        version.measured = nbytes
        if version.serves or not self._room.on_demand or nbytes > self._room.limit:
            version.short = nbytes
            await self._fail(version, reason)
        else:
            version.resting = True
            await self._publisher.rest(version.name, version.number)
            version.enter(State.START, reason)
        return False

    async def _replace(self, due: list[int], seen: Scan) -> None:
        """Unload first; when nothing of what is new can be loaded, what was there before is loaded again."""
        serving = [version for version in self.versions.values() if version.serves or version.asleep]
        gone = [version for version in serving if version.number not in seen.wanted or version.number in due]
        await asyncio.gather(*[self._retire(version) for version in gone])
        loaded = await asyncio.gather(*[self._load(number, seen.paths[number], seen.stamps[number]) for number in due])
        if any(loaded) or self.available:
            return
        for version in gone:
            if version.number not in due and version.tried is not None:
                await self._load(version.number, version.path, version.tried)

    async def _retire_unwanted(self, wanted: tuple[int, ...]) -> None:
        # What is left of an unreadable base path is no reason to stop serving.
        there = [version for version in self.versions.values() if version.serves or version.asleep]
        if any(version.number in wanted for version in there):
            await asyncio.gather(*[self._retire(version) for version in there if version.number not in wanted])

    async def _retire(self, version: ModelVersion) -> None:
        version.enter(State.UNLOADING)
        version.resting = False
        await self._publisher.retire(version.name, version.number)
        version.drop()
        version.enter(State.END)
        _log.info("model %r version %d is unloaded", version.name, version.number)

    def _forget(self, seen: Scan) -> None:
        """Keep a bounded number of ended versions."""
        for number in self._seen.keys() - seen.stamps.keys():
            del self._seen[number]
        ended = [version for version in self.versions.values() if version.state is State.END]
        ended.sort(key=lambda version: version.since[State.END])
        for version in ended[: max(len(ended) - _MOST_ENDED, 0)]:
            del self.versions[version.number]


class _Resident:
    """A version that serves, as Room sees it."""

    def __init__(self, model: ManagedModel, version: ModelVersion) -> None:
        self.version = version
        self._publisher = model._publisher
        self.pinned = model.config.pinned
        in_flight, last = self._publisher.activity(version.name, version.number)
        self.busy = in_flight > 0
        self.used = max(last, version.loaded)

    async def leave(self) -> None:
        version = self.version
        version.enter(State.UNLOADING)
        version.resting = True
        await self._publisher.rest(version.name, version.number)
        version.drop()
        version.enter(State.START, "made room for others")
