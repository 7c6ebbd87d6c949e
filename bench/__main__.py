"""``python -m bench``: everything in one run, a table at its end."""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

from rich.console import Console

from bench import markdown, table
from bench.codec import suite as codec
from bench.engines import suite as engines
from bench.load import suite as load
from bench.load.suite import Loads
from bench.machine import machine, versions
from bench.measure import Effort
from bench.peers import DISTRIBUTIONS
from bench.peers import suite as peers
from bench.plot import plot
from bench.process import suite as process
from bench.process.suite import Starts
from bench.report import Report
from bench.repository import suite as repository
from bench.repository.suite import Changes
from bench.transport import suite as transport

_SUITES = ("codec", "transport", "load", "process", "engines", "repository", "peers")
_PATIENCE = 10.0  # seconds; a model's call that takes longer is made once
_WIDTH = 190  # columns; a narrower terminal wraps lines rather than lose cells


@dataclass(frozen=True)
class Plan:
    """How much of everything a run measures."""

    codec: Effort
    transport: Effort
    load: Loads
    process: Starts
    engines: Effort
    repository: Changes
    peers: Effort


_FULL = Plan(
    codec=Effort(0.5, 7, 400),
    transport=Effort(3.5, 15, 2000, sample=5e-3),
    load=Loads(2.0, 4),
    process=Starts(10_000, 9),
    engines=Effort(4.0, 15, 150, sample=5e-3, slow=_PATIENCE),
    repository=Changes(swaps=1_000, models=200, rounds=1_000, folders=10_000),
    peers=Effort(0.5, 5, 400),
)
_QUICK = Plan(
    codec=Effort(0.08, 3, 100),
    transport=Effort(0.4, 5, 400, sample=2e-3),
    load=Loads(1.0, 1),
    process=Starts(1_000, 3),
    engines=Effort(0.5, 3, 30, sample=2e-3, slow=_PATIENCE),
    repository=Changes(swaps=50, models=20, rounds=50, folders=10_000),
    peers=Effort(0.04, 2, 100),
)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--only", choices=_SUITES, action="append", help="one part of it; may be repeated")
    parser.add_argument("--quick", action="store_true", help="fewer samples; no text formats at 77 MB")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all raw figures")
    parser.add_argument("--plot", action="store_true", help="draw the pictures in bench/results")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="renew the recorded run in a Markdown file")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = _arguments(arguments)
    # The original package's calls of flatbuffers are the deprecated ones.
    warnings.simplefilter("ignore", DeprecationWarning)
    suites = options.only or _SUITES
    plan = _QUICK if options.quick else _FULL
    report = Report(machine(), versions(DISTRIBUTIONS))
    console = Console()
    if console.width < _WIDTH:
        console = Console(width=_WIDTH, soft_wrap=True)
    start = perf_counter()
    steps: tuple[tuple[str, str, Callable[[], None]], ...] = (
        ("transport", "round trips", lambda: transport.run(report, plan.transport)),
        ("load", "requests a second", lambda: load.run(report, plan.load)),
        ("process", "memory and start", lambda: process.run(report, plan.process)),
        ("engines", "models", lambda: engines.run(report, plan.engines)),
        ("repository", "models that come and go", lambda: repository.run(report, plan.repository)),
        ("codec", "codec", lambda: codec.run(report, plan.codec)),
        ("peers", "codecs of peers", lambda: peers.run(report, plan.peers, options.quick)),
    )
    for suite, words, measure in steps:
        if suite in suites:
            console.print(f"{words} ...")
            measure()
    report.seconds = perf_counter() - start
    report.rows.sort(key=lambda row: _SUITES.index(row.suite))
    _show(report, console)
    if options.json:
        options.json.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    if options.plot:
        for path in plot(report):
            console.print(f"drawn: {path.name}")
    if options.markdown:
        markdown.update(options.markdown, report)
    return 0


def _show(report: Report, console: Console) -> None:
    """All tables, the one with budgets and floors last."""
    for name, value in report.machine.items():
        console.print(f"{name}: {value}", highlight=False)
    for shown in reversed(table.all_tables(report)):
        console.print()
        table.show(shown, console)
    console.print(f"{report.seconds:.0f} s", highlight=False)


if __name__ == "__main__":
    sys.exit(main())
