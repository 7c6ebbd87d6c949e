"""The figures of a run, as numbers and as one JSON document."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import tensorwire
from tensorwire.servers.loadgen.histogram import Histogram
from tensorwire.servers.loadgen.plan import Plan
from tensorwire.servers.loadgen.tally import Tally

__all__ = ["PERCENTILES", "Summary"]

PERCENTILES: Final = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9, "max": 100.0}
_POINTS: Final = 100  # of the distribution in JSON


@dataclass(frozen=True)
class Summary:
    """A plan, the inputs in words, what is known of the server, the number of processes, and the tally."""

    plan: Plan
    inputs: tuple[str, ...]
    model: str
    server: str
    request_nbytes: int
    processes: int
    tally: Tally

    @property
    def requests_per_second(self) -> float:
        """Answered without an error."""
        return self.tally.requests / self.tally.seconds

    @property
    def nbytes_out_per_second(self) -> float:
        return self.tally.nbytes_out / self.tally.seconds

    @property
    def nbytes_in_per_second(self) -> float:
        return self.tally.nbytes_in / self.tally.seconds

    @property
    def cpu(self) -> float:
        """Processor cores that the generator used, all its processes together."""
        return self.tally.cpu / self.tally.window

    def distributions(self) -> dict[str, Histogram]:
        """Latencies by how they were counted.

        At a fixed rate they run from when a request was due ("scheduled"): nothing is left out. In a closed loop a
        slow answer keeps its connection from sending: there are those "measured", and those "corrected" for it, as
        if each connection were to send one request in the median latency.
        """
        measured = self.tally.latencies
        if self.plan.rate:
            return {"scheduled": measured}
        return {"measured": measured, "corrected": measured.corrected(measured.percentile(50))}

    def to_json(self) -> dict[str, Any]:
        """Plain values; times are in seconds."""
        tally, plan = self.tally, self.plan
        return {
            "tensorwire": tensorwire.__version__,
            "url": plan.url,
            "server": self.server,
            "model": self.model,
            "inputs": list(self.inputs),
            "request_nbytes": self.request_nbytes,
            "loop": "open" if plan.rate else "closed",
            "rate": plan.rate or None,
            "connections": plan.connections,
            "processes": self.processes,
            "duration": plan.duration,
            "warmup": plan.warmup,
            "timeout": plan.timeout,
            "seconds": tally.seconds,
            "requests": tally.requests,
            "requests_per_second": self.requests_per_second,
            "nbytes_out_per_second": self.nbytes_out_per_second,
            "nbytes_in_per_second": self.nbytes_in_per_second,
            "errors": {kind: {"count": f.count, "first": f.first} for kind, f in tally.failures.items()},
            "unsent": tally.unsent,
            "client_cpu": self.cpu,
            "latency": {name: _latency(found) for name, found in self.distributions().items()},
        }


def _latency(histogram: Histogram) -> dict[str, Any] | None:
    if not len(histogram):
        return None
    shares, seconds = histogram.curve()
    points = np.unique(np.searchsorted(shares, 1 - np.logspace(0, -6, _POINTS)).clip(max=len(shares) - 1))
    found: dict[str, Any] = {name: histogram.percentile(percent) for name, percent in PERCENTILES.items()}
    found |= {"min": histogram.shortest, "mean": histogram.mean}
    return found | {"distribution": [[float(shares[i]) * 100, float(seconds[i])] for i in points]}
