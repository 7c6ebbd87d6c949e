"""Changes under base paths, told as they happen, where the system can; watchfiles does the watching."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

__all__ = ["Watcher"]

_log = logging.getLogger("tensorwire.repository")
_STEP_MS = 50  # changes that come so close together are told at once
_DEBOUNCE_MS = 400  # and are not held back for longer than this
_STARTED = 0.3  # seconds in which the system has begun to watch, for certain
_LOOK_MS = 2000  # between two looks at which base paths are there


class Watcher:
    """Calls ``changed(name, folders)`` on the event loop's thread when something under that model's base path has
    changed; ``folders``: the names of what it has changed in, directly under the base path (None: any).

    Folders that are not there, and those that the system cannot watch (too many of them, a file system without
    notifications), are not watched: ``watches`` says which are, the others have to be polled. Network file systems may
    be watched and never tell, so polling now and then does no harm to any.
    """

    def __init__(self, changed: Callable[[str, Collection[str] | None], None]) -> None:
        self._changed = changed
        self._bases: dict[str, Path] = {}
        self._watched: frozenset[str] = frozenset()
        self._task: asyncio.Task[None] | None = None
        self._again = asyncio.Event()

    def watches(self, name: str) -> bool:
        return name in self._watched

    def watch(self, bases: Mapping[str, Path]) -> None:
        """Watch these base paths from now on, and no others."""
        if dict(bases) == self._bases and self._task is not None:
            return
        self._bases = dict(bases)
        self._again.set()
        if self._task is None:
            self._task = asyncio.ensure_future(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))
            self._task = None

    async def _run(self) -> None:
        from watchfiles import awatch

        while True:
            self._again.clear()
            there = self._there()
            self._watched = frozenset(there)
            try:
                if there:
                    for name in there:
                        # What changed before the system began to watch, nobody tells.
                        asyncio.get_running_loop().call_later(_STARTED, self._changed, name, None)
                    folders = {folder for folder, _ in there.values()}
                    async for changes in awatch(
                        *folders,
                        watch_filter=None,
                        debounce=_DEBOUNCE_MS,
                        step=_STEP_MS,
                        stop_event=self._again,
                        rust_timeout=_LOOK_MS,
                        yield_on_timeout=True,
                    ):
                        self._tell({path for _, path in changes}, there)
                        # A folder that is deleted and made again has to be watched again.
                        if self._there() != there:
                            break
                    continue
            except Exception as error:
                _log.warning("base paths cannot be watched, and are polled: %s", error)
                self._watched = frozenset()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_LOOK_MS / 1e3):
                    await self._again.wait()

    def _there(self) -> dict[str, tuple[Path, int]]:
        """The base paths that are folders now, by model, with their inodes."""
        found = {}
        for name, base in self._bases.items():
            with contextlib.suppress(OSError):
                if base.is_dir():
                    found[name] = (base.resolve(), base.stat().st_ino)
        return found

    def _tell(self, paths: set[str], there: Mapping[str, tuple[Path, int]]) -> None:
        """``there``: the folders that are watched, which the changed ``paths`` lie in."""
        for name, (folder, _) in there.items():
            top = str(folder)
            inside = top if top.endswith("/") else f"{top}/"
            folders = {path[len(inside) :].partition("/")[0] for path in paths if path.startswith(inside)}
            if folders or top in paths:
                self._changed(name, folders)
