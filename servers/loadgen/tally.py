"""What a run has counted, in one process or in several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tensorwire.servers.loadgen.histogram import Histogram

__all__ = ["Failures", "Tally"]


@dataclass
class Failures:
    """Failed requests of one kind: how many, and the text of the first."""

    count: int = 0
    first: str = ""


@dataclass
class Tally:
    """Requests whose answers came after the warm-up.

    ``requests`` were answered without an error; ``unsent`` were due (at a fixed rate, warm-up included), but until
    the end no connection was free to send them. ``nbytes_out`` and ``nbytes_in`` are bytes of messages, HTTP heads
    not counted, of the answered ones. ``seconds`` is how long it took from the end of the warm-up to the last answer,
    ``cpu`` the processor seconds of the generator until no more were sent, ``window`` the seconds in which they were.
    ``latencies`` run from when a request was due: at a fixed rate from its place in the schedule, else from when it
    was sent.
    """

    requests: int = 0
    unsent: int = 0
    nbytes_out: int = 0
    nbytes_in: int = 0
    seconds: float = 0.0
    window: float = 0.0
    cpu: float = 0.0
    latencies: Histogram = field(default_factory=Histogram)
    failures: dict[str, Failures] = field(default_factory=dict)

    @property
    def errors(self) -> int:
        """Failed requests, of all kinds."""
        return sum(failures.count for failures in self.failures.values())

    def fail(self, kind: str, text: str, count: int = 1) -> None:
        """Count failed requests."""
        failures = self.failures.setdefault(kind, Failures())
        failures.count += count
        failures.first = failures.first or text

    def merge(self, other: Tally) -> None:
        """Add what another process counted at the same time; processor seconds add up, too."""
        self.requests += other.requests
        self.unsent += other.unsent
        self.nbytes_out += other.nbytes_out
        self.nbytes_in += other.nbytes_in
        self.seconds = max(self.seconds, other.seconds)
        self.window = max(self.window, other.window)
        self.cpu += other.cpu
        self.latencies.merge(other.latencies)
        for kind, failures in other.failures.items():
            self.fail(kind, failures.first, failures.count)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = {name: getattr(self, name) for name in _NUMBERS}
        failures = {kind: [failures.count, failures.first] for kind, failures in self.failures.items()}
        return found | {"latencies": self.latencies.to_json(), "failures": failures}

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Tally:
        """The reverse of ``to_json``."""
        made = cls(**{name: found[name] for name in _NUMBERS})
        made.latencies = Histogram.from_json(found["latencies"])
        made.failures = {kind: Failures(*values) for kind, values in found["failures"].items()}
        return made


_NUMBERS = ("requests", "unsent", "nbytes_out", "nbytes_in", "seconds", "window", "cpu")
