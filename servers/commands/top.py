"""``tensorwire top``."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tensorwire.servers.commands.admin_client import ask
from tensorwire.servers.commands.values import UserError, shown, size_text

if TYPE_CHECKING:
    from rich.table import Table

__all__ = ["EXAMPLES", "top"]

EXAMPLES = """Examples:

    tensorwire top http://127.0.0.1:9000

    tensorwire top unix:///run/model.sock --interval 5 --sort memory

    tensorwire top http://127.0.0.1:9000 --count 2 | cat
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One version of a model, as ``top`` shows it; ``rate`` is requests a second since the last look."""

    model: str
    version: str
    state: str
    labels: str
    rate: float | None
    failures: float | None
    p50: float | None
    p99: float | None
    in_flight: int
    memory: int | None
    note: str


def top(
    url: Annotated[str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")],
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two looks.")] = 1.0,
    count: Annotated[int, typer.Option(min=0, metavar="N", help="Looks, after which it ends. 0: until Ctrl-C.")] = 0,
    sort: Annotated[
        Literal["name", "rate", "p99", "memory"], typer.Option(help="Order of the models; the largest come first.")
    ] = "name",
) -> None:
    """Watch a server: its models, their states, requests a second, latencies and memory. Ends with Ctrl-C.

    The latencies are those of each version's last 1,024 requests, from a request's head to its answer. Of a server with
    several workers it shows the one that answers.
    """
    from rich.console import Console
    from rich.live import Live

    console = Console(highlight=False)
    looks = _looks(url, interval, count)
    first = next(looks)
    if not console.is_terminal:
        for table in (_table(first, sort), *(_table(look, sort) for look in looks)):
            console.print(table)
        return
    with Live(_table(first, sort), console=console, auto_refresh=False, screen=not count) as live:
        for look in looks:
            live.update(_table(look, sort), refresh=True)


@dataclass(frozen=True, slots=True)
class Look:
    """What a server says at one time; ``problem``: why it did not answer this time."""

    url: str
    rows: Sequence[Row]
    used: int | None
    limit: int | None
    problem: str = ""


def _looks(url: str, interval: float, count: int) -> Iterator[Look]:
    """One look after the other, the rates of each being those since the one before. Raises UserError at the first."""
    before: dict[tuple[str, str], Mapping[str, Any]] = {}
    then = 0.0
    last: Look | None = None
    number = 0
    while True:
        now = time.monotonic()
        try:
            found = ask(url, "GET", "/v1/models")
            memory = found.get("memory") or {}
            last = Look(url, rows(found["models"], before, now - then), memory.get("used"), memory.get("limit"))
            before = {(model["name"], version["version"]): version for model, version in _versions(found["models"])}
            then = now
        except UserError as error:
            if last is None:
                raise
            last = Look(url, last.rows, last.used, last.limit, str(error))
        except (KeyError, TypeError, AttributeError):
            raise UserError(f"{url} does not say which models it has as tensorwire does") from None
        yield last
        number += 1
        if number == count:
            return
        time.sleep(max(interval - (time.monotonic() - now), 0.0))


def rows(
    models: Sequence[Mapping[str, Any]], before: Mapping[tuple[str, str], Mapping[str, Any]], seconds: float
) -> list[Row]:
    """The rows for what ``GET /v1/models`` answers, ``seconds`` after it answered ``before`` (empty: never)."""
    found = []
    for model, version in _versions(models):
        old = before.get((model["name"], version["version"]))
        labels = [label for label, number in model["labels"].items() if str(number) == version["version"]]
        weight = _weight(model, version["version"], labels)
        found.append(
            Row(
                model["name"],
                version["version"],
                version["state"],
                ", ".join(labels) + (f" {weight}" if weight else ""),
                _rate(version, old, "requests", seconds),
                _rate(version, old, "failures", seconds),
                version.get("p50_ms"),
                version.get("p99_ms"),
                version["in_flight"],
                version.get("memory"),
                version["error"] or _shadowed(model, version["version"], labels),
            )
        )
    for model in models:
        if not model["versions"] or model["problem"]:
            found.append(Row(model["name"], "", "", "", None, None, None, None, 0, None, model["problem"] or "none"))
    return found


def _versions(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((model, version) for model in models for version in model["versions"])


def _rate(now: Mapping[str, Any], old: Mapping[str, Any] | None, key: str, seconds: float) -> float | None:
    if old is None or now["state"] != "AVAILABLE":
        return None
    # A version that was loaded anew counts from 0 again.
    grown = now[key] - old[key] if now[key] >= old[key] else now[key]
    return float(grown / seconds)


def _weight(model: Mapping[str, Any], number: str, labels: Sequence[str]) -> str:
    """'5 %': what a version gets of the requests that name none; '' where nothing is divided."""
    weights = model.get("traffic") or {}
    total = sum(weights.values())
    own = sum(weight for name, weight in weights.items() if name == number or name in labels)
    return f"{100 * own / total:.3g} %" if total and own else ""


def _shadowed(model: Mapping[str, Any], number: str, labels: Sequence[str]) -> str:
    """How the copies of requests for this version compared."""
    shadow = model.get("shadow")
    if not shadow or shadow["to"] not in (number, *labels):
        return ""
    parts = [f"{shadow[key]:,} {key}" for key in ("same", "different", "failed", "skipped") if shadow[key]]
    latest = f" ({shadow['latest']})" if shadow["latest"] else ""
    return f"shadow: {', '.join(parts) or 'no requests yet'}{latest}"


_ORDERS = {
    "rate": lambda row: -(row.rate or 0.0),
    "p99": lambda row: -(row.p99 or 0.0),
    "memory": lambda row: -(row.memory or 0),
}


def _table(look: Look, sort: str) -> Table:
    from rich.table import Table
    from rich.text import Text

    sorted_rows = sorted(look.rows, key=_ORDERS[sort]) if sort in _ORDERS else look.rows
    total = sum(row.rate or 0.0 for row in look.rows)
    memory = "" if look.used is None else f" · models take {size_text(look.used)}"
    limit = f" of {size_text(look.limit)}" if look.limit else ""
    caption = Text(shown(look.problem), style="red") if look.problem else None
    title = f"{look.url} · {time.strftime('%H:%M:%S')} · {total:,.0f} requests/s{memory}{limit}"
    table = Table(title=Text(title), caption=caption, expand=False)
    for name in ("model", "version", "labels", "state"):
        table.add_column(name, overflow="fold")
    for name in ("requests/s", "failures/s", "p50 ms", "p99 ms", "in flight", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="ellipsis", no_wrap=True)
    previous = ""
    for row in sorted_rows:
        cells = (
            "" if row.model == previous else row.model,
            row.version,
            row.labels,
            row.state,
            _number(row.rate),
            _number(row.failures or None),
            _number(row.p50),
            _number(row.p99),
            str(row.in_flight or ""),
            size_text(row.memory) if row.memory else "",
            row.note,
        )
        style = "" if row.state == "AVAILABLE" else "red" if row.state == "END" and row.note else "dim"
        table.add_row(*[Text(shown(cell)) for cell in cells], style=style)
        previous = row.model
    return table


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"
