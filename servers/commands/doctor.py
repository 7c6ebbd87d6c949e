"""``tensorwire doctor``."""

from __future__ import annotations

import json as json_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorwire.servers.commands.values import UserError

if TYPE_CHECKING:
    from tensorwire.servers.doctor.builds import Host
    from tensorwire.servers.doctor.floors import Copy, Trip

EXAMPLES = """Examples:

    tensorwire doctor

    tensorwire doctor --json -
"""


def doctor(
    json: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write the findings as JSON; -: to standard output.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.01, max=60.0, metavar="SECONDS", help="Time for each of ten measurements.")
    ] = 0.4,
) -> None:
    """Measure what this host can do, how much of it an echo over tensorwire reaches, and say what is off."""
    if json not in (None, "-") and not Path(str(json)).parent.is_dir():
        raise UserError(f"no such folder: {Path(str(json)).parent}")
    from rich.console import Console

    from tensorwire.servers.doctor.advice import advise
    from tensorwire.servers.doctor.builds import look
    from tensorwire.servers.doctor.floors import measure

    console = Console(stderr=True)
    host = look()
    with console.status(f"measuring, {10 * seconds + 1:.0f} s"):
        copy, trips = measure(seconds)
    advice = advise(host, copy, trips)
    if json is not None:
        text = json_module.dumps(_document(host, copy, trips, advice), indent=2)
        if json == "-":
            print(text)
            return
        Path(json).write_text(text + "\n")
    _print(host, copy, trips, advice)


def _document(host: Host, copy: Copy, trips: list[Trip], advice: list[str]) -> dict[str, Any]:
    """Plain values; times are in seconds."""
    return {
        "host": host.rows(),
        "versions": host.versions,
        "onnxruntime_providers": host.providers,
        "memcpy": {"nbytes": copy.nbytes, "seconds": copy.seconds},
        "round_trips": [
            {"transport": t.transport, "size": t.size, "floor": t.floor, "echo": t.ours, "reached": t.reached}
            for t in trips
        ],
        "advice": advice,
    }


def _print(host: Host, copy: Copy, trips: list[Trip], advice: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tensorwire.servers.commands.bench_report import time_text

    console = Console(highlight=False)
    builds = Table(show_header=False, box=None, pad_edge=False)
    for name, value in host.rows().items():
        builds.add_row(Text(name), Text(value))
    console.print(builds)
    speed = copy.nbytes / copy.seconds / 1e9
    console.print(f"\nwarm copy of {copy.nbytes / 1e6:.0f} MB: {time_text(copy.seconds)}, {speed:.1f} GB/s\n")
    table = Table("round trip")
    for title in ("plain sockets", "echo", "reached"):
        table.add_column(title, justify="right")
    for trip in trips:
        row = f"{trip.size} each way, {trip.transport}"
        table.add_row(row, time_text(trip.floor), time_text(trip.ours), f"{trip.reached:.0%}")
    console.print(table)
    for line in advice:
        console.print(Text(f"! {line}"), soft_wrap=True)
    if not advice:
        console.print("nothing is off")
