"""What is to be served: models with their places, versions and labels, whatever file said so."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from tensorwire.errors import TensorwireError
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule, find_version

__all__ = ["LARGEST_VERSION", "ConfigError", "ModelConfig", "RepositoryConfig", "VersionPolicy", "unknown_default"]

LARGEST_VERSION = 2**63 - 1
"""Versions are numbers from 0 to this, as in TensorFlow Serving."""

_NAME = re.compile(r"[^\s/:?#%\x00-\x1f]{1,200}")


class ConfigError(TensorwireError, ValueError):
    """A configuration cannot be used; the text says where, what is wrong and what is allowed.

    ``field`` is the field of ModelConfig that is at fault, and ``item`` the key in it, '' when it is none.
    ``mistakes``: each by itself, when the text tells of several.
    """

    def __init__(self, text: str, field: str = "", item: str = "", mistakes: Sequence[ConfigError] = ()) -> None:
        super().__init__(text)
        self.field = field
        self.item = item
        self._mistakes = tuple(mistakes)

    @property
    def mistakes(self) -> tuple[ConfigError, ...]:
        return self._mistakes or (self,)

    @classmethod
    def of(cls, mistakes: Sequence[ConfigError]) -> ConfigError:
        """One error for one mistake or more."""
        single = [one for mistake in mistakes for one in mistake.mistakes]
        return single[0] if len(single) == 1 else cls("; ".join(map(str, single)), mistakes=single)


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
        wrong = [number for number in self.specific if not 0 <= number <= LARGEST_VERSION]
        if wrong:
            raise ConfigError(f"a version is a number from 0 to {LARGEST_VERSION}, not {', '.join(map(str, wrong))}")

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
        mistakes = [ConfigError(f"model {self.name!r}: {wrong}", at, item) for wrong, at, item in self._mistakes()]
        if not _NAME.fullmatch(self.name):
            wrong = f"model name {self.name!r}: 1 to 200 characters, without spaces and without / : ? # %, are needed"
            mistakes.insert(0, ConfigError(wrong, "name"))
        if mistakes:
            raise ConfigError.of(mistakes)

    def _mistakes(self) -> Iterator[tuple[str, str, str]]:
        """What is wrong, the field, and the key in it or ''."""
        if not self.path:
            yield "a path is needed", "path", ""
        for label, number in self.labels.items():
            if not _NAME.fullmatch(label):
                yield f"label {label!r} has characters that a URL cannot carry", "labels", label
            if not 0 <= number <= LARGEST_VERSION:
                yield f"label {label!r}: a version is 0 or more, not {number}", "labels", label
        for name in self.traffic.weights:
            if find_version(name, self.labels) is None:
                yield f"traffic: {name!r} is no version and none of its labels{_named(self.labels)}", "traffic", name
        if self.shadow is not None and find_version(self.shadow.to, self.labels) is None:
            yield f"shadow: {self.shadow.to!r} is no version and none of its labels{_named(self.labels)}", "shadow", ""
        if "/" in self.ready_file:
            yield f"ready_file is a file's name, not a path: {self.ready_file!r}", "ready_file", ""
        if self.settle < 0:
            yield f"settle is 0 or more seconds, not {self.settle:g}", "settle", ""
        if self.transition not in ("availability", "resource"):
            yield f"transition is 'availability' or 'resource', not {self.transition!r}", "transition", ""
        if self.attempts < 1:
            yield f"attempts is 1 or more, not {self.attempts}", "attempts", ""


def _named(labels: Mapping[str, int]) -> str:
    return f" ({', '.join(labels)})" if labels else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RepositoryConfig:
    """All models. ``default`` is the one for requests that name none ('': the first). ``remarks``: what their file says
    without effect here. Raises ConfigError.
    """

    models: tuple[ModelConfig, ...]
    default: str = ""
    remarks: tuple[str, ...] = field(default=(), compare=False)

    def __post_init__(self) -> None:
        seen: set[str] = set()
        for model in self.models:
            if model.name in seen:
                raise ConfigError(f"two models have the name {model.name!r}")
            seen.add(model.name)
        if self.default and self.default not in seen:
            raise ConfigError(unknown_default(self.default, seen))


def unknown_default(name: str, names: Collection[str]) -> str:
    """What is wrong with a default model that none of the models is."""
    here = ", ".join(repr(name) for name in sorted(names)) or "none"
    return f"the default model {name!r} is not configured; there are {here}"
