"""What a run yields: measurements as they were taken, and the rows of the table at its end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from bench.measure import Times
from bench.peers import ORIGINAL, OURS

_LEVEL: Final = 0.05


@dataclass(frozen=True)
class Beside:
    """What ours is compared with: a floor or a peer, by name; median and best, in seconds."""

    name: str
    value: float
    best: float


@dataclass(frozen=True)
class Budget:
    """What ours must reach: in words, and as the greatest value (seconds or bytes) that does."""

    text: str
    limit: float


@dataclass(frozen=True)
class Row:
    """One line of the final table; figures are medians, ``best`` is ours at its best. ``unit`` is "s" or "B"."""

    suite: str
    name: str
    ours: float
    best: float
    budget: Budget | None = None
    floor: Beside | None = None
    original: float | None = None
    unit: str = "s"

    @property
    def ratio(self) -> float | None:
        """Ours over the floor."""
        return self.ours / self.floor.value if self.floor else None

    @property
    def best_ratio(self) -> float | None:
        """Best over best: where it differs much from ``ratio``, something else was running."""
        return self.best / self.floor.best if self.floor else None

    @property
    def verdict(self) -> str:
        if self.budget is None:
            return ""
        return "ok" if self.ours <= self.budget.limit else "over"


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
    def verdict(self) -> str:
        """ "level" is within 5 %: less than such figures move from run to run."""
        if abs(self.best - self.ours) <= _LEVEL * self.best:
            return "level"
        return "ahead" if self.ours < self.best else "behind"


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
