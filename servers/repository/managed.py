"""One configured model: its versions on disk compared with those that serve, and the steps between."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.config import ModelConfig, VersionPolicy
from tensorwire.servers.repository.layout import Stamp, find_versions, look
from tensorwire.servers.repository.loading import Loader
from tensorwire.servers.repository.version import ModelVersion, State

__all__ = ["ManagedModel", "Publisher"]

_log = logging.getLogger("tensorwire.repository")
_MOST_ENDED = 16  # versions that are remembered after their end, for whoever asks what became of them


class Publisher(Protocol):
    """Who sends requests to loaded versions; all methods are called on the event loop's thread."""

    def publish(self, name: str, number: int, model: Model) -> None:
        """Send requests to this version from now on; a model under the same number finishes what it has."""

    async def retire(self, name: str, number: int) -> None:
        """Send it no more; returns when it has answered what it had, and is closed."""


class ManagedModel:
    """Brings what serves in line with what is on disk, a step at a time; never two steps of one model at once.

    ``problem``: why the base path cannot be read, '' while it can. A version that serves goes on serving until one that
    is wanted serves, whatever happens to files: the exception is a transition of 'resource', asked for as such.
    """

    def __init__(
        self, config: ModelConfig, loader: Loader, publisher: Publisher, is_model: Callable[[Path], bool]
    ) -> None:
        self.config = config
        self.problem = ""
        self.versions: dict[int, ModelVersion] = {}
        self._loader = loader
        self._publisher = publisher
        self._is_model = is_model
        self._seen: dict[int, tuple[Stamp, float]] = {}
        self._step = asyncio.Lock()

    @property
    def base(self) -> Path:
        return Path(self.config.path).expanduser()

    @property
    def waiting(self) -> bool:
        """There are versions whose files are still changing."""
        return bool(self._seen)

    @property
    def available(self) -> tuple[int, ...]:
        """The versions that serve, ascending."""
        return tuple(sorted(number for number, version in self.versions.items() if version.serves))

    async def reconcile(self, *, force: bool = False) -> None:
        """Look at the disk, and load and unload what that asks for. ``force``: load what is wanted again, complete or
        not. Raises nothing of what the disk or a model does.
        """
        async with self._step:
            seen = await asyncio.to_thread(_scan, self.base, self.config.policy, self._is_model)
            self._complain(seen.problem)
            for number, reason in seen.unreadable.items():
                self._unreadable(number, seen.paths[number], reason)
            due = [number for number in seen.stamps if self._due(number, seen, force)]
            if self.config.transition == "resource" and due:
                await self._replace(due, seen)
            else:
                await asyncio.gather(*[self._load(number, seen.paths[number], seen.stamps[number]) for number in due])
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
            await asyncio.gather(*[self._retire(version) for version in self.versions.values() if version.serves])

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

    def _due(self, number: int, seen: _Scan, force: bool) -> bool:
        """The version is to be loaded now."""
        stamp, version = seen.stamps[number], self.versions.get(number)
        if force:
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

    async def _load(self, number: int, path: Path, stamp: Stamp) -> bool:
        version = self.versions.get(number)
        replaced = version is not None and version.serves
        if version is None or not replaced:
            version = self.versions[number] = ModelVersion(self.config.name, number, path)
            version.enter(State.LOADING)
        version.tried = stamp
        self._seen.pop(number, None)
        began = time.monotonic()
        try:
            model = await self._loader.load(self.config, number, path)
        except ModelError as error:
            _log.error("model %r version %d cannot be served: %s", self.config.name, number, error)
            if replaced:
                version.error = str(error)
            else:
                version.enter(State.END, str(error))
            return False
        self._publisher.publish(self.config.name, number, model)
        version.path = path
        version.enter(State.AVAILABLE)
        _log.info(
            "model %r version %d (%s) %s after %.1f s",
            self.config.name,
            number,
            model.engine,
            "is served with new files" if replaced else "is served",
            time.monotonic() - began,
        )
        return True

    async def _replace(self, due: list[int], seen: _Scan) -> None:
        """Unload first; when nothing of what is new can be loaded, what was there before is loaded again."""
        serving = [version for version in self.versions.values() if version.serves]
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
        if not set(wanted).intersection(self.available):
            return
        await asyncio.gather(
            *[
                self._retire(version)
                for number, version in self.versions.items()
                if version.serves and number not in wanted
            ]
        )

    async def _retire(self, version: ModelVersion) -> None:
        version.enter(State.UNLOADING)
        await self._publisher.retire(version.name, version.number)
        version.enter(State.END)
        _log.info("model %r version %d is unloaded", version.name, version.number)

    def _forget(self, seen: _Scan) -> None:
        """Keep a bounded number of ended versions."""
        for number in self._seen.keys() - seen.stamps.keys():
            del self._seen[number]
        ended = [version for version in self.versions.values() if version.state is State.END]
        ended.sort(key=lambda version: version.since[State.END])
        for version in ended[: max(len(ended) - _MOST_ENDED, 0)]:
            del self.versions[version.number]


@dataclass(slots=True)
class _Scan:
    """What is on disk: all versions by number, those wanted with the state of their files, or why there is none."""

    paths: dict[int, Path] = field(default_factory=dict)
    wanted: tuple[int, ...] = ()
    stamps: dict[int, Stamp] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    problem: str = ""


def _scan(base: Path, policy: VersionPolicy, is_model: Callable[[Path], bool]) -> _Scan:
    seen = _Scan()
    try:
        seen.paths = find_versions(base, is_model)
    except OSError as error:
        seen.problem = f"{base}: {error.strerror or error}"
        return seen
    seen.wanted = policy.choose(seen.paths)
    if not seen.wanted:
        asked = f"no version {', '.join(map(str, policy.specific))}" if policy.specific else "no version folder"
        seen.problem = f"{base}: {asked} in it"
    for number in seen.wanted:
        path = seen.paths[number]
        try:
            seen.stamps[number] = look(path)
        except OSError as error:
            dangling = path.is_symlink() and not path.exists()
            seen.unreadable[number] = f"{path}: {'a link that leads nowhere' if dangling else error.strerror or error}"
    return seen
