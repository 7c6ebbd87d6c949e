"""Whether the files of versions are complete, so that no half-copied one is loaded."""

from __future__ import annotations

import time
from math import inf
from pathlib import Path

from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.layout import Stamp

__all__ = ["Settling"]

_PATIENCE = 3.0  # settle times in which files are looked at often; those that go on changing are looked at seldom
_LEAST = 0.5  # seconds of the same, for a settle time of next to nothing


class Settling:
    """Remembers, by number, since when the files of versions that are not complete are as they are."""

    def __init__(self) -> None:
        self._seen: dict[int, tuple[Stamp, float, float]] = {}

    def impatient(self, settle: float) -> bool:
        """There are files that will be complete soon, if nothing changes any more."""
        now = time.monotonic()
        return any(now - first <= _PATIENCE * settle + _LEAST for _, _, first in self._seen.values())

    def why_not(self, number: int, path: Path, stamp: Stamp, config: ModelConfig, tried: Stamp | None) -> str:
        """Why a version is not complete yet; '' when it is. ``tried`` is the state of its files that serves now, if
        there is one.
        """
        now = time.monotonic()
        marked = bool(config.ready_file) and path.is_dir()
        # Nobody knows when a marker comes: that is no reason to look often.
        before, since, first = self._seen.get(number, (None, now, -inf if marked else now))
        if before != stamp:
            since = now
        self._seen[number] = (stamp, since, first)
        quiet = max(stamp.age(), now - since) >= config.settle
        if marked:
            return self._not_marked(path / config.ready_file, stamp, quiet, tried)
        if not stamp.files:
            return "the folder is empty"
        return "" if quiet else f"its files have changed less than {config.settle:g} s ago"

    def _not_marked(self, marker: Path, stamp: Stamp, quiet: bool, tried: Stamp | None) -> str:
        try:
            marked = marker.stat().st_ctime_ns
        except OSError:
            return f"there is no {marker.name} in it"
        # The marker of the files that serve may lie there while others take their place.
        if tried is not None and marked < stamp.changed and not quiet:
            return f"its files have changed after its {marker.name}"
        return ""

    def settled(self, number: int) -> None:
        """A version is loaded, or is not looked at any more."""
        self._seen.pop(number, None)

    def keep(self, numbers: set[int]) -> None:
        """Forget all but these."""
        for number in self._seen.keys() - numbers:
            del self._seen[number]
