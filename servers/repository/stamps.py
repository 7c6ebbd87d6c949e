"""The states of many versions' files, most of them known from an earlier look."""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Collection, Mapping
from pathlib import Path

from tensorwire.servers.repository.layout import Stamp, look

__all__ = ["Stamps"]

_WINDOW = 256  # versions that are looked into at each look, in turn, though nothing tells of a change in them
_REST = 2.0  # seconds after which a further change gets another time: the coarsest clocks of file systems tick in 2 s

_Top = tuple[int, int, int, int]


class Stamps:
    """Looks into version folders; not into all of them again and again, where there are many.

    A folder tells by itself that it has been replaced, and that something has been added to it, removed or renamed.
    What changes deeper inside is seen while the version's files are still coming to rest, when somebody is in
    ``doubt`` about it, and when the version's turn comes. Up to _WINDOW versions are looked into every time.
    """

    def __init__(self) -> None:
        self._known: dict[int, tuple[Path, _Top, Stamp]] = {}
        self._last = -1

    def look(
        self, paths: Mapping[int, Path], doubts: Collection[str] | None, rest: float
    ) -> tuple[dict[int, Stamp], dict[int, OSError]]:
        """The states of the files of these versions, and the errors of those that cannot be read. ``doubts``: the names
        of folders in which something may have changed (None: all). ``rest``: seconds without a change after which files
        have come to rest.
        """
        known: dict[int, tuple[Path, _Top, Stamp]] = {}
        stamps: dict[int, Stamp] = {}
        unreadable: dict[int, OSError] = {}
        turn = self._turn(sorted(paths))
        rested = time.time_ns() - round(max(rest, _REST) * 1e9)
        for number, path in paths.items():
            try:
                found = os.stat(path)  # noqa: PTH116 - a third of what Path.stat takes
                top = (found.st_dev, found.st_ino, found.st_mtime_ns, found.st_ctime_ns)
                before = self._known.get(number)
                if (
                    before is None
                    or before[:2] != (path, top)
                    or number in turn
                    or doubts is None
                    or (doubts and path.name in doubts)
                    or before[2].changed > rested
                ):
                    before = (path, top, look(path))
                known[number] = before
                stamps[number] = before[2]
            except OSError as error:
                unreadable[number] = error
        self._known = known
        return stamps, unreadable

    def forget(self) -> None:
        """Look into all of them the next time."""
        self._known = {}

    def _turn(self, numbers: list[int]) -> set[int]:
        """The next _WINDOW of these ascending numbers, after the highest those begin again."""
        if len(numbers) <= _WINDOW:
            return set(numbers)
        begin = bisect_right(numbers, self._last)
        turn = (numbers[begin:] + numbers[:begin])[:_WINDOW]
        self._last = turn[-1]
        return set(turn)
