"""What is to be served: models with their places, versions and labels, whatever file said so."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tensorwire.errors import TensorwireError
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule, find_version

__all__ = ["LARGEST_VERSION", "ConfigError", "ModelConfig", "RepositoryConfig", "VersionPolicy"]

LARGEST_VERSION = 2**63 - 1
"""Versions are numbers from 0 to this, as in TensorFlow Serving."""

_NAME = re.compile(r"[^\s/:?#%\x00-\x1f]{1,200}")


class ConfigError(TensorwireError, ValueError):
    """A configuration cannot be used; the text says where, what is wrong and what is allowed.

    ``field`` is the field of ModelConfig that is at fault, '' when it is none.
    """

    def __init__(self, text: str, field: str = "") -> None:
        super().__init__(text)
        self.field = field


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions that are there are served: the ``latest`` so many, those in ``specific``, or all.

    ``specific`` counts when it is not empty, ``latest`` 0 means all. Raises ConfigError.
    """

    latest: int = 1
    specific: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.latest < 0:
            raise ConfigError(f"the number of latest versions is 0 (all) or more, not {self.latest}")
        for number in self.specific:
            if not 0 <= number <= LARGEST_VERSION:
                raise ConfigError(f"a version is a number from 0 to {LARGEST_VERSION}, not {number}")

    def choose(self, found: Collection[int]) -> tuple[int, ...]:
        """The versions to serve of those found, ascending."""
        if self.specific:
            return tuple(sorted(set(self.specific).intersection(found)))
        numbers = sorted(found)
        return tuple(numbers[-self.latest :] if self.latest else numbers)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """One model.

    ``path``: its base path, with a folder for each version, or a file or folder that is the model itself (version
    1). ``engine``: what runs it (None: found by its files) with its ``options``. ``labels``: names of versions.
    ``ready_file``: a version folder is complete when it holds a file of this name; without one (''), when nothing in it
    has changed for ``settle`` seconds. ``transition``: a new version is loaded before the old one is unloaded
    ('availability'), or after it ('resource', for models that do not fit twice). ``attempts``: how often loading
    is tried before a version counts as broken. ``warm_up``: run the model before it takes requests. ``traffic``: how
    requests that name no version are divided, ``shadow``: which are copied to another version. ``pinned``: it stays in
    memory when others are needed.

    Raises ConfigError.
    """

    name: str
    path: str
    engine: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    policy: VersionPolicy = VersionPolicy()
    labels: Mapping[str, int] = field(default_factory=dict)
    ready_file: str = ""
    settle: float = 1.0
    transition: Literal["availability", "resource"] = "availability"
    attempts: int = 3
    warm_up: bool = True
    traffic: SplitRule = NEWEST
    shadow: MirrorRule | None = None
    pinned: bool = False

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise ConfigError(
                f"model name {self.name!r}: 1 to 200 characters, without spaces and without / : ? # %, are needed"
            )
        for name, wrong in self._mistakes():
            raise ConfigError(f"model {self.name!r}: {wrong}", name)

    def _mistakes(self) -> Iterator[tuple[str, str]]:
        """Fields that are wrong, and how."""
        if not self.path:
            yield "path", "a path is needed"
        for label, number in self.labels.items():
            if not _NAME.fullmatch(label):
                yield "labels", f"label {label!r} has characters that a URL cannot carry"
            if not 0 <= number <= LARGEST_VERSION:
                yield "labels", f"label {label!r}: a version is 0 or more, not {number}"
        for name in self.traffic.weights:
            if find_version(name, self.labels) is None:
                yield "traffic", f"traffic: {name!r} is no version and none of its labels{_named(self.labels)}"
        if self.shadow is not None and find_version(self.shadow.to, self.labels) is None:
            yield "shadow", f"shadow: {self.shadow.to!r} is no version and none of its labels{_named(self.labels)}"
        if "/" in self.ready_file:
            yield "ready_file", f"ready_file is a file's name, not a path: {self.ready_file!r}"
        if self.settle < 0:
            yield "settle", f"settle is 0 or more seconds, not {self.settle:g}"
        if self.transition not in ("availability", "resource"):
            yield "transition", f"transition is 'availability' or 'resource', not {self.transition!r}"
        if self.attempts < 1:
            yield "attempts", f"attempts is 1 or more, not {self.attempts}"


def _named(labels: Mapping[str, int]) -> str:
    return f" ({', '.join(labels)})" if labels else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """All models. ``default`` is the one for requests that name none ('': the first). Raises ConfigError."""

    models: tuple[ModelConfig, ...]
    default: str = ""

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for model in self.models:
            if model.name in seen:
                raise ConfigError(f"two models have the name {model.name!r}")
            seen.add(model.name)
        if self.default and self.default not in seen:
            here = ", ".join(repr(name) for name in sorted(seen)) or "none"
            raise ConfigError(f"the default model {self.default!r} is not configured; there are {here}")
