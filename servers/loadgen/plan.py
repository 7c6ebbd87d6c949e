"""How a load is to be made."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

__all__ = ["Plan", "Progress"]

Progress = Callable[[float, int, int], None]
"""Told a few times a second: seconds since the start, requests answered and requests failed until then."""


@dataclass(frozen=True)
class Plan:
    """A server's URL and how requests are sent to it.

    ``connections`` are open at once, each with one request under way at most. ``rate`` is requests a second, by
    the clock whatever the answers do (an open loop); 0 means that each connection sends its next request as soon
    as its last one is answered (a closed loop). ``phase``: seconds from the start to the first request at a rate.
    ``duration`` and ``warmup`` are in seconds; ``timeout``, in seconds, is for connecting and for an answer.
    ``options``: ``verify``, ``cert`` and ``token``, as for ``tensorwire.Client``.
    """

    url: str
    connections: int
    rate: float
    duration: float
    warmup: float
    timeout: float
    phase: float = 0.0
    options: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def split(self, processes: int) -> list[Plan]:
        """A part of the load for each process: connections as equal as can be, and the rate by connections."""
        parts = []
        for number in range(processes):
            count = self.connections // processes + (number < self.connections % processes)
            share = count / self.connections
            phase = self.phase + (number / self.rate if self.rate else 0.0)
            parts.append(replace(self, connections=count, rate=self.rate * share, phase=phase))
        return parts

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Plan:
        return cls(**found)
