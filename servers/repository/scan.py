"""One look at a base path: the versions that are there, those that are wanted, and the state of their files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from pathlib import Path

from tensorwire.servers.repository.config import VersionPolicy
from tensorwire.servers.repository.layout import Stamp, find_versions
from tensorwire.servers.repository.stamps import Stamps

__all__ = ["Scan", "Scanner"]


@dataclass(slots=True)
class Scan:
    """What is on disk: all versions by number, those wanted with the state of their files, or why there is none."""

    paths: dict[int, Path] = field(default_factory=dict)
    wanted: tuple[int, ...] = ()
    stamps: dict[int, Stamp] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    problem: str = ""


class Scanner:
    """Looks at one base path again and again, and remembers what it need not look into again."""

    def __init__(self, base: Path, is_model: Callable[[Path], bool]) -> None:
        self._base = base
        self._is_model = is_model
        self._paths: dict[int, Path] = {}
        self._stamps = Stamps()

    def scan(self, policy: VersionPolicy, doubts: Collection[str] | None = None, rest: float = 0.0) -> Scan:
        """Look at the base path; ``doubts`` and ``rest``: see Stamps. Raises nothing of what the disk does."""
        base, seen = self._base, Scan()
        try:
            seen.paths = self._paths = find_versions(base, self._is_model, self._paths)
        except OSError as error:
            seen.problem = f"{base}: {error.strerror or error}"
            self._stamps.forget()  # nobody knows what is done to it meanwhile
            return seen
        seen.wanted = policy.choose(seen.paths)
        missing = [str(number) for number in policy.specific if number not in seen.paths]
        if missing:
            seen.problem = f"{base}: no version {', '.join(missing)} in it"
        elif not seen.wanted:
            seen.problem = f"{base}: no version folder in it"
        wanted = {number: seen.paths[number] for number in seen.wanted}
        seen.stamps, errors = self._stamps.look(wanted, doubts, rest)
        seen.unreadable = {number: _told(seen.paths[number], error) for number, error in errors.items()}
        return seen


def _told(path: Path, error: OSError) -> str:
    """Which file it is that cannot be read, and why."""
    file = Path(os.fsdecode(error.filename)) if error.filename is not None else path
    dangling = file.is_symlink() and not file.exists()
    return f"{file}: {'a link that leads nowhere' if dangling else error.strerror or error}"
