"""What ``tensorwire bench`` prints and saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.table import Table
from rich.text import Text

from tensorwire.servers.commands.values import shown, size_text
from tensorwire.servers.loadgen.summary import PERCENTILES, Summary

__all__ = ["print_report", "time_text", "write_json"]

_BUSY: Final = 0.9  # of a core for each process: the generator may be what was measured
_LONGEST: Final = 160  # characters of an error's text
_ROWS: Final = {
    "scheduled": "since it was due",
    "measured": "measured",
    "corrected": "corrected",
}


def write_json(summary: Summary, path: str) -> None:
    """To a file, or to standard output ("-"). Raises OSError."""
    text = json.dumps(summary.to_json(), indent=2)
    if path == "-":
        print(text)
    else:
        Path(path).write_text(text + "\n")


def print_report(summary: Summary) -> None:
    """Tables for people on standard output."""
    console = Console(highlight=False)
    plan, tally = summary.plan, summary.tally
    sends = ", ".join(summary.inputs)
    console.print(Text(f"{summary.model or 'model'} ({summary.server or 'server'}) at {plan.url}"), soft_wrap=True)
    console.print(Text(f"request: {sends}, {size_text(summary.request_nbytes)}"), soft_wrap=True)
    load = f"{plan.rate:,g} requests/s due, by the clock" if plan.rate else "closed loop"
    console.print(
        f"load: {load}, {_many(plan.connections, 'connection')}, {_many(summary.processes, 'process', 'processes')}, "
        f"{plan.duration:g} s after {plan.warmup:g} s of warm-up",
        soft_wrap=True,
    )
    console.print(_throughput(summary))
    if tally.requests:
        console.print(_latencies(summary))
    for kind, failures in tally.failures.items():
        first = " ".join(shown(failures.first).split())[:_LONGEST]
        console.print(Text(f"{failures.count:,} x {shown(kind)}, the first: {first}"), soft_wrap=True)
    for line in _remarks(summary):
        console.print(line, soft_wrap=True)


def _throughput(summary: Summary) -> Table:
    table = Table()
    for title in ("requests", "requests/s", "MB/s out", "MB/s in", "errors", "client CPU"):
        table.add_column(title, justify="right")
    table.add_row(
        f"{summary.tally.requests:,}",
        f"{summary.requests_per_second:,.1f}",
        f"{summary.nbytes_out_per_second / 1e6:,.1f}",
        f"{summary.nbytes_in_per_second / 1e6:,.1f}",
        f"{summary.tally.errors:,}",
        f"{summary.cpu:.0%} of a core",
    )
    return table


def _latencies(summary: Summary) -> Table:
    table = Table("latency")
    for title in PERCENTILES:
        table.add_column(title, justify="right")
    for name, histogram in summary.distributions().items():
        table.add_row(_ROWS[name], *(time_text(histogram.percentile(p)) for p in PERCENTILES.values()))
    return table


def _remarks(summary: Summary) -> list[str]:
    found = []
    plan, tally = summary.plan, summary.tally
    if tally.requests and not plan.rate:
        interval = time_text(tally.latencies.percentile(50))
        found.append(f"corrected: for coordinated omission, as if each connection had to send every {interval}")
    if tally.unsent:
        found.append(
            f"{tally.unsent:,} requests were due but never sent, for all {plan.connections} connections waited for "
            "answers: the server does not keep up with this rate, and the latencies are lower bounds"
        )
    if summary.cpu > _BUSY * summary.processes:
        found.append("the generator used all of its processor time: the server may do more (see --processes)")
    return found


def time_text(seconds: float) -> str:
    """Three digits and a unit: '85.2 us', '1.24 ms', '12.0 s'."""
    for unit, factor in (("us", 1e6), ("ms", 1e3)):
        if seconds * factor < 999.5:
            return f"{seconds * factor:#.3g} {unit}".replace(". ", " ")
    return f"{seconds:#.3g} s".replace(". ", " ")


def _many(count: int, noun: str, plural: str = "") -> str:
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"
