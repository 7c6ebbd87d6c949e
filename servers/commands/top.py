"""``tensorwire top``."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tensorwire.servers.commands.admin_client import Pages
from tensorwire.servers.commands.models import Ca, label_remarks
from tensorwire.servers.commands.values import UserError, shown, size_text

if TYPE_CHECKING:
    from rich.console import Group
    from rich.table import Table

__all__ = ["EXAMPLES", "top"]

EXAMPLES = """Examples:

    tensorwire top http://127.0.0.1:9000

    tensorwire top unix:///run/model.sock --interval 5 --sort memory

    tensorwire top http://127.0.0.1:9000 --count 2 | cat
"""


_TIMEOUT = 10.0  # seconds in which a server answers
_WIDTH = 200  # columns of what no terminal shows
_WIDE = 115  # columns from which on there is room for lines between the columns


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
    memory: float | None
    note: str


def top(
    url: Annotated[str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")],
    interval: Annotated[float, typer.Option(min=0.1, metavar="SECONDS", help="Time between two looks.")] = 1.0,
    count: Annotated[int, typer.Option(min=0, metavar="N", help="Looks, after which it ends. 0: until Ctrl-C.")] = 0,
    sort: Annotated[
        Literal["name", "rate", "p99", "memory"], typer.Option(help="Order of the models; the largest come first.")
    ] = "name",
    ca: Ca = None,
) -> None:
    """Watch a server: its models, their states, requests a second, latencies and memory. Ends with Ctrl-C.

    The latencies are those of each version's last 1,024 requests, from a request's head to its answer. Of a server with
    several workers, counts and memory are the sums over all of them, latencies those of the slowest.
    """
    from rich.console import Console
    from rich.live import Live

    if not math.isfinite(interval):
        raise UserError(f"--interval is a number of seconds, not {interval:g}")
    console = Console(highlight=False)
    with closing(Pages(url, max(_TIMEOUT, interval), ca)) as pages:
        looks = _looks(pages, url, interval, count)
        first = next(looks)
        # Ctrl-C is how it ends, and no failure.
        with suppress(KeyboardInterrupt):
            if not console.is_terminal or console.is_dumb_terminal:
                console.width = max(console.width, _WIDTH)
                console.print(_drawn(first, sort, console.width))
                for look in looks:
                    console.print(_drawn(look, sort, console.width))
                return
            drawn = _drawn(first, sort, console.width)
            with Live(drawn, console=console, auto_refresh=False, screen=not count) as live:
                for look in looks:
                    live.update(_drawn(look, sort, console.width), refresh=True)


@dataclass(frozen=True, slots=True)
class Look:
    """What a server says at one time; ``told``: how many of its workers did; ``problem``: why none did this time, or
    what is wrong with all of it.
    """

    url: str
    rows: Sequence[Row]
    used: float | None
    limit: float | None
    expired: int
    cancelled: int
    workers: int = 1
    told: int = 1
    problem: str = ""


def _looks(pages: Pages, url: str, interval: float, count: int) -> Iterator[Look]:
    """One look after the other, the rates of each being those since the one before. Raises UserError at the first."""
    before: dict[tuple[str, str], Mapping[str, Any]] = {}
    then = 0.0
    processes: object = None
    last: Look | None = None
    number = 0
    while True:
        now = time.monotonic()
        try:
            found = pages.get("/v1/models")
            stats = _stats(pages)
            if _processes(stats) != processes:
                before, processes = {}, _processes(stats)  # others, which count for themselves
            last = _look(url, found, stats, before, now - then)
            before = {(model["name"], version["version"]): version for model, version in _versions(found["models"])}
            then = now
        except UserError as error:
            if last is None:
                raise
            stale = [replace(row, rate=None, failures=None) for row in last.rows]
            last = replace(last, rows=stale, problem=str(error))
        except (KeyError, TypeError, AttributeError, ValueError, ArithmeticError):
            raise UserError(f"{url} does not say which models it has as tensorwire does") from None
        yield last
        number += 1
        if number == count:
            return
        time.sleep(max(interval - (time.monotonic() - now), 0.0))


def _stats(pages: Pages) -> Mapping[str, Any]:
    """What GET /v1/stats answers; nothing where there is no such page."""
    try:
        found = pages.get("/v1/stats")
    except UserError:
        return {}
    return found if isinstance(found, dict) else {}


def _processes(stats: Mapping[str, Any]) -> object:
    """The processes that have counted."""
    workers = stats.get("workers") or {}
    return stats.get("pid"), [worker["pid"] for worker in workers.get("each", ())]


def _look(
    url: str, found: Any, stats: Mapping[str, Any], before: Mapping[tuple[str, str], Mapping[str, Any]], seconds: float
) -> Look:
    memory = found.get("memory") or {}
    counts = stats.get("requests") or {}
    workers = stats.get("workers") or {}
    return Look(
        url,
        rows(found["models"], before, seconds),
        _optional(memory.get("used")),
        _optional(memory.get("limit")),
        int(_number(counts.get("expired", 0))),
        int(_number(counts.get("cancelled", 0))),
        int(_number(workers.get("configured", 1))),
        int(_number(workers.get("told", 1))),
        _text(found.get("problem", "")),
    )


def rows(
    models: Sequence[Mapping[str, Any]], before: Mapping[tuple[str, str], Mapping[str, Any]], seconds: float
) -> list[Row]:
    """The rows for what ``GET /v1/models`` answers, ``seconds`` after it answered ``before`` (empty: never).

    Raises KeyError, TypeError, AttributeError, ValueError or ArithmeticError for what is no such answer.
    """
    found = []
    for model, version in _versions(models):
        old = before.get((model["name"], version["version"]))
        labels = [label for label, number in model["labels"].items() if str(number) == version["version"]]
        weight = _weight(model, version["version"], labels)
        found.append(
            Row(
                _text(model["name"]),
                _text(version["version"]),
                _text(version["state"]),
                ", ".join(labels) + (f" {weight}" if weight else ""),
                _rate(version, old, "requests", seconds),
                _rate(version, old, "failures", seconds),
                _optional(version.get("p50_ms")),
                _optional(version.get("p99_ms")),
                int(_number(version["in_flight"])),
                _optional(version.get("memory")),
                _text(version["error"]) or _shadowed(model, version["version"], labels),
            )
        )
    for model in models:
        problem = _text(model["problem"])
        notes = [problem or "no version yet"] if not model["versions"] or problem else []
        for note in (*notes, *label_remarks(model)):
            found.append(Row(_text(model["name"]), "", "", "", None, None, None, None, 0, None, note))
    return found


def _versions(models: Sequence[Mapping[str, Any]]) -> Iterator[tuple[Mapping[str, Any], Mapping[str, Any]]]:
    return ((model, version) for model in models for version in model["versions"])


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"text is expected, not {value!r}")
    return value


def _number(value: Any) -> float:
    if not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError(f"a number is expected, not {value!r}")
    return float(value)


def _optional(value: Any) -> float | None:
    return None if value is None else _number(value)


def _rate(now: Mapping[str, Any], old: Mapping[str, Any] | None, key: str, seconds: float) -> float | None:
    if old is None or now["state"] != "AVAILABLE":
        return None
    # A version that was loaded anew counts from 0 again.
    count, counted = _number(now[key]), _number(old[key])
    return (count - counted if count >= counted else count) / seconds


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


_ORDERS: dict[str, Callable[[Row], Any]] = {
    "name": lambda row: row.model,
    "rate": lambda row: -(row.rate or 0.0),
    "p99": lambda row: -(row.p99 or 0.0),
    "memory": lambda row: -(row.memory or 0),
}


def _drawn(look: Look, sort: str, width: int) -> Group:
    """The table, and below it what there is to say of its rows."""
    from rich.console import Group
    from rich.text import Text

    found = sorted(look.rows, key=_ORDERS[sort])
    notes = [(f"{row.model} {row.version}".strip() + f": {row.note}", _style(row)) for row in found if row.note]
    if look.problem:
        notes.insert(0, (look.problem, "red"))
    return Group(_table(_title(look), found, width), *[Text(shown(note), style=style) for note, style in notes])


def _title(look: Look) -> str:
    total = sum(row.rate or 0.0 for row in look.rows)
    parts = [look.url, time.strftime("%H:%M:%S"), f"{total:,.0f} requests/s"]
    parts += [
        f"{number:,} {what}" for number, what in ((look.expired, "expired"), (look.cancelled, "cancelled")) if number
    ]
    if look.workers > 1:
        parts.append(
            f"{look.workers} workers" if look.told == look.workers else f"{look.told} of {look.workers} workers"
        )
    if look.used is not None:
        limit = f" of {size_text(int(look.limit))}" if look.limit else ""
        parts.append(f"models take {size_text(int(look.used))}{limit}")
    return " · ".join(parts)


def _table(title: str, found: Sequence[Row], width: int) -> Table:
    from rich.box import HEAVY_HEAD, SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    wide = width >= _WIDE
    table = Table(
        title=Text(shown(title)), box=HEAVY_HEAD if wide else SIMPLE_HEAD, show_edge=wide, padding=(0, int(wide))
    )
    table.add_column("model", overflow="fold", min_width=8)
    table.add_column("version" if wide else "ver.", overflow="fold")
    table.add_column("labels", overflow="fold", min_width=6)
    table.add_column("state", no_wrap=True)
    names = ("requests/s", "failures/s", "p50 ms", "p99 ms", "in flight", "memory")
    for name in names if wide else ("req/s", "fail/s", "p50 ms", "p99 ms", "open", "memory"):
        table.add_column(name, justify="right", no_wrap=True)
    previous = ""
    for row in found:
        cells = (
            "" if row.model == previous else row.model,
            row.version,
            row.labels,
            row.state,
            _short(row.rate),
            _short(row.failures or None),
            _short(row.p50),
            _short(row.p99),
            str(row.in_flight or ""),
            size_text(int(row.memory)) if row.memory else "",
        )
        table.add_row(*[Text(shown(cell)) for cell in cells], style=_style(row))
        previous = row.model
    return table


def _style(row: Row) -> str:
    if row.state == "AVAILABLE":
        return ""
    return "red" if row.state in ("END", "") and row.note else "dim"


def _short(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 100 or value == 0 else f"{value:.3g}"
