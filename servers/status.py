"""What becomes of models and their versions, for people and for programs that ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

__all__ = ["ModelStatus", "VersionStatus"]


@dataclass(frozen=True, slots=True)
class VersionStatus:
    """A version: its state by TensorFlow Serving's names, the error that ended it or keeps its newer files out, the
    time.time() at which it entered each state, and requests under way.
    """

    number: int
    state: str
    error: str = ""
    since: Mapping[str, float] = field(default_factory=dict)
    engine: str = ""
    in_flight: int = 0

    @property
    def available(self) -> bool:
        return self.state == "AVAILABLE"


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """A model with its versions, newest first. ``problem``: why its base path cannot be read, '' while it can."""

    name: str
    versions: Sequence[VersionStatus]
    labels: Mapping[str, int]
    problem: str = ""

    @property
    def ready(self) -> bool:
        return any(version.available for version in self.versions)
