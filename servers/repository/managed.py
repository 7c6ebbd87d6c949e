"""One configured model: its versions on disk compared with those that serve, and the steps between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Protocol

from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.layout import Stamp, look
from tensorwire.servers.repository.loading import Loader
from tensorwire.servers.repository.room import Evict, Room
from tensorwire.servers.repository.scan import Scan
from tensorwire.servers.repository.settling import Settling
from tensorwire.servers.repository.source import Source, open_source
from tensorwire.servers.repository.version import ModelVersion, State
from tensorwire.servers.resident import size_text

__all__ = ["ManagedModel", "Publisher"]

_log = logging.getLogger("tensorwire.repository")
_MOST_OLDER = 4  # versions that are tried in the place of a newer one
_MOST_TOLD = 8  # versions in a line of the log
_MOST_ENDED = 16  # versions that are remembered after their end, for whoever asks what became of them


class Publisher(Protocol):
    """Who sends requests to loaded versions; all methods are called on the event loop's thread."""

    def publish(self, name: str, number: int, model: Model) -> None:
        """Send requests to this version from now on; a model under the same number finishes what it has."""

    def retire(self, name: str, number: int) -> Awaitable[None]:
        """Send it no more, from now on; what is returned ends when it has answered what it had, and is closed."""

    def rest(self, name: str, number: int) -> Awaitable[None]:
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
        self._settling = Settling()
        self._finishing: dict[asyncio.Task[None], ModelVersion] = {}
        self._lost: dict[str, int] = {}
        self._older = 0  # versions that the source shall have ready beside those wanted
        self._fetching = False  # it has just been told of another one
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
        """There are versions whose files have just changed, or are on their way here: another look is of use soon."""
        return self._settling.impatient(self.config.settle) or self._source.busy or self._fetching

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that serve, ascending."""
        return tuple(sorted(number for number, version in self.versions.items() if version.serves))

    @property
    def ready(self) -> bool:
        """A version serves, or will when it is asked for."""
        return any(version.ready for version in self.versions.values())

    def residents(self) -> Iterator[_Resident]:
        """The versions that are in memory, and may leave."""
        return (_Resident(self, version) for version in self.versions.values() if version.serves)

    def activity(self, version: ModelVersion) -> tuple[int, float]:
        """Requests that a version has in flight, and time.perf_counter() of its last answer (0: none yet)."""
        return self._publisher.activity(version.name, version.number)

    async def wake(self, number: int) -> str:
        """Load a version that is asleep, because somebody asks for it; returns why it does not serve then, or ''."""
        async with self._step:
            version = self.versions.get(number)
            leaving = [task for task, one in self._finishing.items() if one is version and one.resting]
            if leaving:
                await asyncio.wait(leaving)
            if version is not None and version.asleep and version.tried is not None:
                await self._load(number, version.path, version.tried, Evict.ANY)
            # Before anything else is done with it.
            return "it has been unloaded" if version is None else "" if version.serves else version.error

    async def reconcile(self, *, force: bool = False) -> None:
        """Look at the disk, and load and unload what that asks for. ``force``: load what is wanted again, complete or
        not. Raises nothing of what the disk or a model does.
        """
        async with self._step:
            self._fetching = False
            there = [version.path for version in self.versions.values() if version.ready]
            seen = await self.source.scan(self.config, there, self._older)
            self._complain(seen.problem)
            for number, reason in seen.unreadable.items():
                self._unreadable(number, seen.paths[number], reason)
            due = [number for number in seen.wanted if number in seen.stamps and self._due(number, seen, force)]
            if self.config.transition == "resource" and due:
                await self._replace(due, seen)
            else:
                # A model that serves may make others leave for its new version, but not its own.
                evict = Evict.OTHERS if self.available else Evict.NONE
                await asyncio.gather(
                    *[self._load(number, seen.paths[number], seen.stamps[number], evict) for number in due]
                )
                await self._fall_back(seen)
                self._retire_unwanted(seen.wanted)
            self._tell_labels(seen)
            self._forget(seen)

    async def configure(self, config: ModelConfig) -> None:
        """Take a new configuration of the same name. Versions are loaded anew when what loads them has changed."""
        old = self.config
        changed = (old.path, old.engine, old.options) != (config.path, config.engine, config.options)
        self.config = config
        await self.reconcile(force=changed)

    async def close(self) -> Awaitable[None]:
        """Withdraw every version; what is returned ends when they have answered what they had."""
        async with self._step:
            for version in self.versions.values():
                if version.ready:
                    self._retire(version)
            self._source.close()
        return asyncio.ensure_future(self._finished())

    async def _finished(self) -> None:
        if self._finishing:
            await asyncio.wait(self._finishing)

    def _complain(self, problem: str) -> None:
        if problem and problem != self.problem:
            serving = ", ".join(map(str, self.available))
            _log.warning("model %r: %s%s", self.config.name, problem, f"; {serving} goes on serving" if serving else "")
        elif self.problem and not problem:
            _log.info("model %r: %s is as it should be again", self.config.name, self._source.path)
        self.problem = problem

    def _tell_labels(self, seen: Scan) -> None:
        """Once, of labels that name a version which neither serves nor is about to."""
        ready = [version.number for version in self.versions.values() if version.ready]
        lost = {label: number for label, number in self.config.labels.items() if number not in {*ready, *seen.wanted}}
        for label, number in lost.items() - self._lost.items():
            here = ", ".join(map(str, sorted(ready)[-_MOST_TOLD:])) or "none"
            name = self.config.name
            _log.warning("model %r: label %r: version %d is not available: it has %s", name, label, number, here)
        self._lost = lost

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
        path, tried = seen.paths[number], version.tried if version is not None and version.serves else None
        reason = self._settling.why_not(number, path, stamp, self.config, tried)
        if reason:
            self._wait(number, path, reason)
        return not reason

    def _wait(self, number: int, path: Path, reason: str) -> None:
        """A version that is there is not loaded yet; whoever asks what became of it is told why."""
        version = self.versions.get(number)
        if version is None or version.state is State.END:
            version = self.versions[number] = ModelVersion(self.config.name, number, path)
            _log.info("model %r version %d waits: %s: %s", self.config.name, number, path, reason)
        if not version.serves:
            version.error = reason

    async def _load(self, number: int, path: Path, stamp: Stamp, evict: Evict = Evict.NONE) -> bool:
        """Load a version, if there is room, or ``evict`` may make some; True when it serves then."""
        async with self._room.turn():
            version = self.versions.get(number)
            replaced = version is not None and version.serves
            if version is None or version.state not in (State.START, State.AVAILABLE):
                version = self.versions[number] = ModelVersion(self.config.name, number, path)
            version.tried, version.short = stamp, 0
            self._settling.settled(number)
            began = time.monotonic()
            expected = version.expected(stamp)
            if short := await self._room.make(expected, version, evict):
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
            if short := await self._room.make(nbytes, version, evict):
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
        stays = set(seen.wanted).difference(due)
        gone = [version for version in self.versions.values() if version.ready and version.number not in stays]
        if gone:  # what they take must be free before; and unloading goes on though this step may be cancelled
            await asyncio.wait([self._retire(version) for version in gone])
        loaded = await asyncio.gather(*[self._load(number, seen.paths[number], seen.stamps[number]) for number in due])
        if any(loaded) or self.available:
            return
        for version in gone:
            if version.number not in due and version.tried is not None:
                await self._load(version.number, version.path, version.tried)

    async def _fall_back(self, seen: Scan) -> None:
        """Of the latest versions some cannot be loaded, and nothing serves in their place, as after a start: load older
        ones, until as many serve as were wanted.
        """
        policy = self.config.policy
        missing = len(seen.wanted) - sum([version.ready for version in self.versions.values()])
        if policy.specific or not policy.latest or missing <= 0:
            self._older = 0
            return
        older = sorted((number for number in seen.paths if number < min(seen.wanted)), reverse=True)
        for number in older[:_MOST_OLDER]:
            version, path = self.versions.get(number), seen.paths[number]
            try:
                here = seen.stamps
                stamp = here[number] if number in here else await asyncio.to_thread(look, path)
            except OSError:
                continue
            if version is not None and (version.serves or (version.tried == stamp and version.error)):
                continue
            if not self._settling.why_not(number, path, stamp, self.config, None):
                _log.warning("model %r: version %d is loaded in the place of newer ones", self.config.name, number)
                missing -= await self._load(number, path, stamp)
            self._settling.settled(number)
            if not missing:
                return
        # Where they have to be fetched, one after the other, and none while a newer one may still come.
        tried = [version for number in older if (version := self.versions.get(number)) is not None]
        newer = [self.versions.get(number) for number in seen.wanted]
        if all(version is not None and (version.ready or version.state is State.END) for version in (*newer, *tried)):
            before, self._older = self._older, min(len(tried) + 1, _MOST_OLDER)
            self._fetching = self._older > before and self._source.base is None

    def _retire_unwanted(self, wanted: tuple[int, ...]) -> None:
        """Unload versions that are not wanted, but for as many of them as wanted ones do not serve yet."""
        there = [version for version in self.versions.values() if version.ready]
        chosen = set(wanted)
        unwanted = sorted([version for version in there if version.number not in chosen], key=lambda one: one.number)
        # What is left of an unreadable base path is no reason to stop serving.
        if len(unwanted) < len(there):
            missing = len(chosen) - (len(there) - len(unwanted))
            for version in unwanted[: max(len(unwanted) - missing, 0)]:
                self._retire(version)

    def _retire(self, version: ModelVersion) -> asyncio.Task[None]:
        """Send a version no more requests from now on; the task ends when it has answered those that it had."""
        version.resting = False
        return self._unload(version, self._publisher.retire(version.name, version.number))

    def rest(self, version: ModelVersion) -> asyncio.Task[None]:
        """As ``_retire``, but the version is loaded again when it is asked for."""
        version.resting = True
        return self._unload(version, self._publisher.rest(version.name, version.number))

    def _unload(self, version: ModelVersion, finished: Awaitable[None]) -> asyncio.Task[None]:
        version.enter(State.UNLOADING)
        task = asyncio.ensure_future(self._finish(version, finished))
        self._finishing[task] = version
        task.add_done_callback(self._finishing.pop)
        return task

    async def _finish(self, version: ModelVersion, finished: Awaitable[None]) -> None:
        await finished
        version.drop()
        if version.resting:
            version.enter(State.START, "made room for others")
            return
        version.enter(State.END)
        _log.info("model %r version %d is unloaded", version.name, version.number)

    def _forget(self, seen: Scan) -> None:
        """Keep a bounded number of ended versions, and none that is gone and never was more than a folder."""
        self._settling.keep(set(seen.stamps))
        wanted = set(seen.wanted)
        for number, version in list(self.versions.items()):
            waited = version.state is State.START and not version.resting and number not in wanted
            unread = version.state is State.END and version.tried is None and number not in seen.paths
            if waited or (unread and not seen.problem):
                del self.versions[number]
        ended = [version for version in self.versions.values() if version.state is State.END]
        ended.sort(key=lambda version: version.since[State.END])
        for version in ended[: max(len(ended) - _MOST_ENDED, 0)]:
            del self.versions[version.number]


class _Resident:
    """A version that serves, as Room sees it."""

    def __init__(self, model: ManagedModel, version: ModelVersion) -> None:
        self.version = version
        self.pinned = model.config.pinned
        self._model = model
        in_flight, last = model.activity(version)
        self.busy = in_flight > 0
        self.used = max(last, version.loaded)

    async def leave(self) -> None:
        await asyncio.wait((self._model.rest(self.version),))
