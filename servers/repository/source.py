"""Where a model's versions come from: a folder of this machine, or a URL whose files are brought here."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.download import file_name
from tensorwire.servers.repository.scan import Scan, Scanner

__all__ = ["LocalSource", "Source", "default_cache", "is_remote", "name_of", "only_model", "open_source"]


class Source(Protocol):
    """Looks at one base path; all methods are called on the event loop's thread."""

    path: str
    """The base path as it is configured."""

    @property
    def base(self) -> Path | None:
        """The folder that can be watched for changes; None: there is none."""

    @property
    def busy(self) -> bool:
        """There are versions that will soon be here: it is worth while to look again."""

    async def scan(self, config: ModelConfig, in_use: Collection[Path], older: int = 0) -> Scan:
        """The versions that are there, those wanted, and the files of those that are here. ``in_use``: the paths of
        versions that serve, which have to stay; ``older``: how many beside the latest are to be here, too. Raises
        nothing of what the disk or a network does.
        """

    def doubt(self, names: Collection[str] | None) -> None:
        """Something may have changed in these folders of the base path (None: in any), though they do not tell."""

    def close(self) -> None:
        """Stop what is under way; nothing is in use any more."""


class LocalSource:
    """A folder or file of this machine."""

    busy = False

    def __init__(self, path: str, is_model: Callable[[Path], bool]) -> None:
        self.path = path
        self.base = Path(path).expanduser()
        self._scanner = Scanner(self.base, is_model)
        self._doubts: set[str] | None = set()

    async def scan(self, config: ModelConfig, in_use: Collection[Path], older: int = 0) -> Scan:
        doubts, self._doubts = self._doubts, set()  # what comes from now on is for the next look
        return await asyncio.to_thread(self._scanner.scan, config.policy, doubts, config.settle)

    def doubt(self, names: Collection[str] | None) -> None:
        self._doubts = None if names is None or self._doubts is None else self._doubts.union(names)

    def close(self) -> None:
        pass


def is_remote(path: str) -> bool:
    """A base path is a URL."""
    return "://" in path


def name_of(url: str) -> str:
    """The name of a model from a URL that is given none: that of its last folder, or of its file without the suffix."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") or f"/{parts.netloc.rpartition('@')[2]}"
    return Path(file_name(path)).stem


def only_model(path: str | Path, name: str, engine: str | None, options: Mapping[str, Any] | None) -> RepositoryConfig:
    """The configuration of one model with this base path, which names the model where ``name`` is ''."""
    place = str(path)
    if is_remote(place):
        name = name or name_of(place)
    else:
        base = Path(place).expanduser().absolute()
        place, name = str(base), name or base.name
    model = ModelConfig(name=name, path=place, engine=engine, options=dict(options or {}))
    return RepositoryConfig(models=(model,))


def open_source(path: str, is_model: Callable[[Path], bool], cache: Path | None = None) -> Source:
    """The source of a base path; ``cache``: where the files of a URL are kept (None: ``default_cache``)."""
    if not is_remote(path):
        return LocalSource(path, is_model)
    from tensorwire.servers.repository.remote import RemoteSource

    return RemoteSource(path, cache or default_cache())


def default_cache() -> Path:
    """The folder tensorwire in the user's folder of caches."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "tensorwire"
