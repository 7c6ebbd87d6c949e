"""How requests that name no version are divided among versions, and which are copied to another one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["NEWEST", "MirrorRule", "SplitRule", "find_version"]


@dataclass(frozen=True, slots=True)
class SplitRule:
    """Weights of versions, each named by its number or a label: {"stable": 95, "3": 5}.

    Without weights the newest version gets all requests. Raises ValueError for negative weights, and for weights that
    are all 0.
    """

    weights: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, weight in self.weights.items():
            if not 0 <= weight < float("inf"):
                raise ValueError(f"the weight of {name!r} is a number from 0 on, not {weight}")
        if self.weights and not any(self.weights.values()):
            raise ValueError("all weights are 0: nothing would be served")


NEWEST = SplitRule()
"""All requests go to the newest version."""


@dataclass(frozen=True, slots=True)
class MirrorRule:
    """Copies of requests for the version ``to``, a number or a label; its answers are compared, never returned.

    ``share``: the part of the requests that is copied, above 0 and up to 1. ``tolerance``: how far numbers may
    differ and count as the same, relative to the larger of 1 and the served value. Raises ValueError.
    """

    to: str
    share: float = 1.0
    tolerance: float = 1e-5

    def __post_init__(self) -> None:
        if not self.to:
            raise ValueError("the version to copy to is missing: its number or label")
        if not 0 < self.share <= 1:
            raise ValueError(f"share is above 0 and up to 1, not {self.share:g}")
        if not 0 <= self.tolerance < float("inf"):
            raise ValueError(f"tolerance is 0 or more, not {self.tolerance:g}")


def find_version(name: str, labels: Mapping[str, int]) -> int | None:
    """The version that a rule names: digits are a number, all else is a label. None for a label that is not there."""
    return int(name) if name.isascii() and name.isdigit() else labels.get(name)
