"""What a server costs as a process: its memory, and the time until it is ready."""

from __future__ import annotations

from dataclasses import dataclass

from bench.process import memory, start
from bench.report import Report


@dataclass(frozen=True)
class Starts:
    """How many requests the flat run has, and how often the server is started."""

    requests: int
    starts: int


def run(report: Report, starts: Starts) -> None:
    """Measure all rows into the report."""
    start.run(report, starts.starts)
    memory.run(report, starts.requests)
