"""Where the versions of a model are under its base path, and whether their files are complete."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.config import LARGEST_VERSION

__all__ = ["Stamp", "find_versions", "look", "model_file", "numbered", "unreadable", "version_names"]

_MOST_LISTED = 8
_MOST_TRIED = 1000  # files of a version that are asked whether they may be read
_HIDDEN = (".", "_")
_LONGEST_NUMBER = 40  # digits, leading zeros included: int() of more costs time that a name does not deserve


@dataclass(frozen=True, slots=True)
class Stamp:
    """What tells one state of a version's files from another: their number, bytes, latest change (ns), top inode.

    The change is the inode's, not the content's: copying tools set the latter back.
    """

    files: int
    nbytes: int
    changed: int
    inode: int

    def age(self) -> float:
        """Seconds since the last change, by this machine's clock."""
        return time.time() - self.changed / 1e9


def find_versions(
    base: Path, is_model: Callable[[Path], bool], made: Mapping[int, Path] | None = None
) -> dict[int, Path]:
    """The versions under a base path by number; a base path that is a model itself is version 1.

    Folders are versions when their names are digits, leading zeros allowed; of two names for one number the shorter
    counts. A file, or a folder without such folders that ``is_model`` recognizes, is version 1. Reads one folder.
    ``made``: what was found before, so that paths are not made again: with thousands of them that is most of the time.
    Raises OSError when the base path is not there or cannot be read.
    """
    if not base.is_dir():
        base.stat()
        return {1: base}
    found = numbered(base, made)
    if found:
        return found
    return {1: base} if is_model(base) else {}


def numbered(base: Path, made: Mapping[int, Path] | None = None) -> dict[int, Path]:
    """The entries of a folder whose names are version numbers; ``made`` as above. Raises OSError."""
    with os.scandir(base) as entries:
        names = version_names(entry.name for entry in entries)
    if not made:
        return {number: base / name for number, name in names.items()}
    return {
        number: path if (path := made.get(number)) is not None and path.name == name else base / name
        for number, name in names.items()
    }


def version_names(names: Iterable[str]) -> dict[int, str]:
    """Those of the names that are version numbers; of two names for one number the shorter."""
    found: dict[int, str] = {}
    for name in names:
        if name.isdigit() and name.isascii() and len(name) <= _LONGEST_NUMBER:
            number = int(name)
            if number <= LARGEST_VERSION and (number not in found or len(name) < len(found[number])):
                found[number] = name
    return found


def look(path: Path) -> Stamp:
    """The state of a version's files. Raises OSError when something of it cannot be read."""
    top = path.stat()
    if not path.is_dir():
        return Stamp(1, top.st_size, top.st_ctime_ns, top.st_ino)
    files, nbytes, changed = 0, 0, top.st_ctime_ns
    folders = [os.fspath(path)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                found = entry.stat()
                changed = max(changed, found.st_ctime_ns)
                if entry.is_dir():
                    folders.append(entry.path)
                else:
                    files += 1
                    nbytes += found.st_size
    return Stamp(files, nbytes, changed, top.st_ino)


def unreadable(version: Path) -> Path | None:
    """The first file or folder of a version that may not be read, for errors of engines, which seldom say so."""
    inside = version.rglob("*") if version.is_dir() and os.access(version, os.R_OK | os.X_OK) else ()
    for path in islice(chain([version], inside), _MOST_TRIED):
        if path.exists() and not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
            return path
    return None


def model_file(version: Path, is_model: Callable[[Path], bool]) -> Path:
    """What an engine loads of a version: the file or folder itself, or the one model in the folder.

    Raises ModelError: nothing there, or nothing that an engine recognizes, or more than one model.
    """
    if not version.exists():
        reason = "a link that leads nowhere" if version.is_symlink() else "no such file or folder"
        raise ModelError(f"{version}: {reason}")
    if not version.is_dir() or is_model(version):
        return version
    inside = sorted(child for child in version.iterdir() if not child.name.startswith(_HIDDEN))
    models = [child for child in inside if is_model(child)]
    if len(models) == 1:
        return models[0]
    names = ", ".join(child.name for child in (models or inside)[:_MOST_LISTED])
    if models:
        raise ModelError(f"{version}: several models in one version: {names}")
    if not inside:
        raise ModelError(f"{version}: the folder is empty")
    raise ModelError(f"{version}: no file in it is a model of a known engine: {names}")
