"""What a run yields: measurements as they were taken, and the rows of the table at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any, Final

from bench.measure import Times
from bench.peers import ORIGINAL, OURS

RATE: Final = "1/s"
"""The unit in which more is better."""

_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Beside:
    """What ours is compared with: a floor or a peer, by name; median and best, in seconds."""

    name: str
    value: float
    best: float


@dataclass(frozen=True)
class Budget:
    """What ours must reach: in words, and as the greatest value (seconds or bytes) that does, or the least one."""

    text: str
    limit: float
    least: bool = False


@dataclass(frozen=True)
class Row:
    """One line of the final table; figures are medians, ``best`` is ours at its best.

    ``unit`` is "s", "B", RATE, or "" for a number. ``note`` says why there is no figure, or what it consists of.
    """

    suite: str
    name: str
    ours: float | None
    best: float | None
    budget: Budget | None = None
    floor: Beside | None = None
    original: float | None = None
    unit: str = "s"
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours over the floor."""
        return self.ours / self.floor.value if self.floor and self.ours is not None else None

    @property
    def best_ratio(self) -> float | None:
        """Best over best: where it differs much from ``ratio``, something else was running."""
        return self.best / self.floor.best if self.floor and self.best is not None else None

    @property
    def verdict(self) -> str:
        if self.budget is None or self.ours is None:
            return ""
        reached = self.ours >= self.budget.limit if self.budget.least else self.ours <= self.budget.limit
        return "ok" if reached else "over"


@dataclass(frozen=True)
class Standing:
    """How ours stands on one workload among the peers that yield the same thing."""

    name: str
    subject: str
    ours: float
    peer: str
    best: float
    remark: str = ""
    unit: str = "s"

    @property
    def factor(self) -> float:
        """How many times better than the peer."""
        if self.unit == RATE:
            return self.ours / self.best
        return self.best / self.ours if self.ours else inf

    @property
    def verdict(self) -> str:
        """ "level" is within 5 %: less than such figures move from run to run."""
        if abs(self.best - self.ours) <= _LEVEL * self.best:
            return "level"
        return "ahead" if self.factor > 1 else "behind"


@dataclass
class Measurement:
    """The raw figures of one subject (ours, a floor, a peer) on one workload, or why there are none."""

    suite: str
    workload: str
    subject: str
    unit: str = "s"
    loops: int = 1
    samples: list[float] = field(default_factory=list)
    note: str = ""

    @property
    def median(self) -> float | None:
        return Times(self.loops, self.samples).median if self.samples else None


@dataclass
class Report:
    """Everything of one run."""

    machine: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    measurements: list[Measurement] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    standings: list[Standing] = field(default_factory=list)
    seconds: float = 0.0

    def record(self, suite: str, workload: str, subject: str, times: Times) -> None:
        self.measurements.append(Measurement(suite, workload, subject, loops=times.loops, samples=times.samples))

    def add(self, suite: str, name: str, times: Mapping[str, Times], budget: Budget, floor: str = "") -> None:
        """A row of ours, and of the floor and the original package where ``times`` has them."""
        ours, original = times[OURS], times.get(ORIGINAL)
        beside = Beside(floor, times[floor].median, times[floor].best) if floor else None
        other = original.median if original else None
        self.rows.append(Row(suite, name, ours.median, ours.best, budget, beside, other))

    def skip(self, suite: str, name: str, reason: str) -> None:
        """A row that has no figures here, and why."""
        self.rows.append(Row(suite, name, None, None, note=reason))

    def note(self, suite: str, workload: str, subject: str, note: str) -> None:
        """Say why there is no figure."""
        self.measurements.append(Measurement(suite, workload, subject, note=note))

    def find(self, suite: str, workload: str, subject: str) -> Measurement | None:
        for measurement in self.measurements:
            if (measurement.suite, measurement.workload, measurement.subject) == (suite, workload, subject):
                return measurement
        return None

    def as_json(self) -> dict[str, Any]:
        """All raw figures, and the rows with their verdicts; times in seconds, memory in bytes."""
        return {
            "machine": self.machine,
            "versions": self.versions,
            "seconds": self.seconds,
            "rows": [_row(row) for row in self.rows],
            "standings": [{**vars(standing), "verdict": standing.verdict} for standing in self.standings],
            "measurements": [vars(measurement) for measurement in self.measurements],
        }


def _row(row: Row) -> dict[str, Any]:
    return {
        **vars(row),
        "budget": vars(row.budget) if row.budget else None,
        "floor": vars(row.floor) if row.floor else None,
        "ratio": row.ratio,
        "best_ratio": row.best_ratio,
        "verdict": row.verdict,
    }
