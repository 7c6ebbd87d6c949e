"""One look at a base path: the versions that are there, those that are wanted, and the state of their files."""

from __future__ import annotations

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
