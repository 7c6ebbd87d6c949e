"""The tables that a run ends with: for the terminal by rich, and the same cells for Markdown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from bench.peers import NAMES
from bench.report import RATE, Measurement, Report, Row

_SECONDS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs"), (1e-9, "ns"))
_BYTES = ((1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_NOTE = 46  # columns of a terminal; longer text is wrapped
_STYLES = {"ok": "green", "ahead": "green", "over": "bold red", "behind": "bold red", "level": "yellow"}


@dataclass
class Table:
    """A title, column heads (the first is the row's name), and rows of text."""

    title: str
    heads: list[str]
    rows: list[list[str]] = field(default_factory=list)


def amount(value: float | None, unit: str = "s") -> str:
    """Seconds as ns, µs, ms or s; bytes as B, kB or MB; rates; numbers; three digits."""
    if value is None:
        return ""
    if unit in (RATE, ""):
        number = f"{value:,.3g}" if value < 100 else f"{value:,.0f}"
        return f"{number} /s" if unit else number
    scales = _BYTES if unit == "B" else _SECONDS
    scale, name = next(((scale, name) for scale, name in scales if value >= scale), scales[-1])
    scaled = value / scale
    return f"{scaled:,.0f} {name}" if scaled >= 100 or name == "B" else f"{scaled:.3g} {name}"


def times(value: float | None) -> str:
    """A ratio; very small ones as a fraction."""
    if value is None:
        return ""
    if value < 0.01:
        return f"1/{1 / value:,.0f}"
    return f"{value:,.2f}" if value < 100 else f"{value:,.0f}"


def main_table(report: Report) -> Table:
    """Ours, the budget, the floor and the original package, one line a row."""
    heads = ["row", "ours", "budget", "", "beside it", "has", "ours / it", "at best", "original", "original / ours"]
    table = Table("tensorwire, its budgets and its floors (medians)", heads)
    for row in report.rows:
        table.rows.append(_cells(row))
    return table


def _cells(row: Row) -> list[str]:
    original = amount(row.original)
    factor = times(row.original / row.ours) if row.original and row.ours else ""
    budget = row.budget.text if row.budget else ""
    floor = (row.floor.name, amount(row.floor.value, row.unit)) if row.floor else (row.note, "")
    ours = amount(row.ours, row.unit)
    return [row.name, ours, budget, row.verdict, *floor, times(row.ratio), times(row.best_ratio), original, factor]


def standing_table(report: Report) -> Table:
    """Ours beside the best of the peers that yield the same thing."""
    heads = ["row", "ours", "has", "best peer", "has", "times better", "", "why"]
    table = Table("tensorwire and the best of its peers", heads)
    for s in report.standings:
        ours, best = amount(s.ours, s.unit), amount(s.best, s.unit)
        table.rows.append([s.name, s.subject, ours, s.peer, best, times(s.factor), s.verdict, s.remark])
    return table


def all_tables(report: Report) -> list[Table]:
    """Those with rows, the one with budgets and floors first."""
    echo = ("77 MB echo, TCP", "77 MB echo, UNIX socket")
    tables = [
        main_table(report),
        standing_table(report),
        subjects_table(report, "77 MB echo: time by server", "transport", echo),
        subjects_table(report, "models: time by way", "engines", workloads(report, "engines")),
        *peer_tables(report),
    ]
    return [table for table in tables if table.rows]


def peer_tables(report: Report) -> list[Table]:
    """All codecs of peers: a line each, a column for each workload."""
    found: dict[str, dict[str, Measurement]] = {}
    absent: dict[str, str] = {}
    for m in report.measurements:
        if m.suite == "peers" and not m.workload:
            absent[m.subject] = "not installed"
        elif m.suite == "peers":
            found.setdefault(m.workload, {})[m.subject] = m
    tables = []
    for title, prefixes in (
        ("encode: time by workload", ("encode",)),
        ("decode: time by workload", ("decode",)),
        ("size of the message by workload", ("size",)),
        ("memory that decoding 6 MB takes beyond the message", ("memory",)),
    ):
        columns = [name for name in found if name.startswith(prefixes)]
        if not columns:
            continue
        table = Table(title, ["", *(_short(column) for column in columns)])
        for name in NAMES:
            taken = [found[column].get(name) for column in columns]
            if name in absent:
                table.rows.append([name, *(absent[name] for _ in columns)])
            elif any(taken):
                table.rows.append([name, *(_cell(m) for m in taken)])
        tables.append(table)
    return tables


def workloads(report: Report, suite: str) -> list[str]:
    """What a suite has figures of, in the order of the run."""
    return list(dict.fromkeys(m.workload for m in report.measurements if m.suite == suite))


def subjects_table(report: Report, title: str, suite: str, workloads: Sequence[str]) -> Table:
    """All that was measured beside each other in some workloads of a suite: a line a subject, a column a workload."""
    found = [m for m in report.measurements if m.suite == suite and m.workload in workloads]
    columns = [name for name in workloads if any(m.workload == name for m in found)]
    table = Table(title, ["", *columns])
    for subject in dict.fromkeys(m.subject for m in found):
        cells = [_cell(report.find(suite, column, subject)) for column in columns]
        table.rows.append([subject, *cells])
    return table


def _short(column: str) -> str:
    for prefix in ("encode ", "decode ", "size of "):
        if column.startswith(prefix):
            return column.removeprefix(prefix)
    return column.rpartition(", ")[2]


def _cell(measurement: Measurement | None) -> str:
    if measurement is None:
        return ""
    return measurement.note or amount(measurement.median, measurement.unit)


def show(table: Table, console: Console) -> None:
    """Print one table; verdicts in colour."""
    rich = RichTable(title=table.title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for index, head in enumerate(table.heads):
        left = index == 0 or head in ("ours", "best peer", "beside it", "why", "")
        wide = _NOTE if head in ("why", "beside it") else None
        rich.add_column(head, justify="left" if left else "right", no_wrap=not wide, max_width=wide)
    for row in table.rows:
        rich.add_row(*(f"[{_STYLES[cell]}]{cell}[/]" if cell in _STYLES else cell for cell in row))
    console.print(rich)
