"""One look at a base path: the versions that are there, those that are wanted, and the state of their files."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tensorwire.servers.repository.config import VersionPolicy
from tensorwire.servers.repository.layout import Stamp, find_versions, look

__all__ = ["Scan", "scan"]


@dataclass(slots=True)
class Scan:
    """What is on disk: all versions by number, those wanted with the state of their files, or why there is none."""

    paths: dict[int, Path] = field(default_factory=dict)
    wanted: tuple[int, ...] = ()
    stamps: dict[int, Stamp] = field(default_factory=dict)
    unreadable: dict[int, str] = field(default_factory=dict)
    problem: str = ""


def scan(base: Path, policy: VersionPolicy, is_model: Callable[[Path], bool]) -> Scan:
    """Look at a base path. Raises nothing of what the disk does."""
    seen = Scan()
    try:
        seen.paths = find_versions(base, is_model)
    except OSError as error:
        seen.problem = f"{base}: {error.strerror or error}"
        return seen
    seen.wanted = policy.choose(seen.paths)
    missing = [str(number) for number in policy.specific if number not in seen.paths]
    if missing:
        seen.problem = f"{base}: no version {', '.join(missing)} in it"
    elif not seen.wanted:
        seen.problem = f"{base}: no version folder in it"
    for number in seen.wanted:
        path = seen.paths[number]
        try:
            seen.stamps[number] = look(path)
        except OSError as error:
            seen.unreadable[number] = _told(path, error)
    return seen


def _told(path: Path, error: OSError) -> str:
    """Which file it is that cannot be read, and why."""
    file = Path(os.fsdecode(error.filename)) if error.filename is not None else path
    dangling = file.is_symlink() and not file.exists()
    return f"{file}: {'a link that leads nowhere' if dangling else error.strerror or error}"
