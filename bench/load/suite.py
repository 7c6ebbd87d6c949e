"""Requests a second of one server process, 4 kB each, beside Mosec's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Final

from bench.children import ChildFailed, running
from bench.load.wrk import ABSENT, CONNECTIONS, Load, available, load
from bench.peers import OURS
from bench.peers.races import race
from bench.peers.servers import SERVERS, serving
from bench.peers.servers.environments import MissingPeer
from bench.report import RATE, Beside, Budget, Measurement, Report, Row
from bench.workload import SHAPES, floats
from tensorwire import Request, encode

MOSEC: Final = "Mosec"


@dataclass(frozen=True)
class Contest:
    """A row: ours (a model of bench.server), Mosec's, and how many times Mosec's rate ours must have."""

    ours: str
    mosec: str
    factor: float


CONTESTS: Final = {
    f"echo, 4 kB, {CONNECTIONS} connections": Contest("echo", "echo", 4),
    f"Python function, 4 kB, {CONNECTIONS} connections": Contest("double", "double", 2),
}


@dataclass(frozen=True)
class Target:
    """Where a load goes, and the file with what each request carries."""

    url: str
    body: Path


@dataclass(frozen=True)
class Loads:
    """How many loads of how many seconds each; a short one that warms up comes first."""

    seconds: float
    rounds: int


def run(report: Report, loads: Loads) -> None:
    """Measure the rows into the report: ours and Mosec's in turns."""
    for name, contest in CONTESTS.items():
        if not available():
            report.skip("load", name, ABSENT)
            continue
        with targets(contest) as (found, absent):
            for subject, reason in absent.items():
                report.note("load", name, subject, reason)
            _contest(report, name, contest, _taken(found, loads))


@contextmanager
def targets(contest: Contest) -> Iterator[tuple[dict[str, Target], dict[str, str]]]:
    """Servers that run until the block ends, by subject; and why another does not."""
    x = floats(SHAPES["4 kB"])
    with TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        message, plain = Path(folder) / "message", Path(folder) / "plain"
        message.write_bytes(bytes(encode(Request({"x": x}))))
        plain.write_bytes(x.tobytes())
        urls = stack.enter_context(running("bench.server", contest.ours, "--listen", "127.0.0.1:0"))
        found, absent = {OURS: Target(urls[0], message)}, {}
        try:
            address = stack.enter_context(serving(SERVERS[MOSEC], "tcp", contest.mosec))
            found[MOSEC] = Target(address, plain)
        except MissingPeer as error:
            absent[MOSEC] = str(error)
        except ChildFailed as error:
            absent[MOSEC] = error.reason
        yield found, absent


def _taken(found: dict[str, Target], loads: Loads) -> dict[str, list[Load]]:
    taken: dict[str, list[Load]] = {subject: [] for subject in found}
    for target in found.values():
        load(target.url, target.body, 1)
    for _ in range(loads.rounds):
        for subject, target in found.items():
            taken[subject].append(load(target.url, target.body, loads.seconds))
    return taken


def _contest(report: Report, name: str, contest: Contest, taken: dict[str, list[Load]]) -> None:
    rates = {subject: [one.rate for one in found] for subject, found in taken.items()}
    for subject, samples in rates.items():
        report.measurements.append(Measurement("load", name, subject, RATE, samples=samples))
        for percentile in ("p50", "p99"):
            times = [getattr(one, percentile) for one in taken[subject]]
            report.measurements.append(Measurement("load", f"{name}: {percentile}", subject, samples=times))
    medians = {subject: median(samples) for subject, samples in rates.items()}
    budget, beside, note = None, None, ""
    if MOSEC in medians:
        budget = Budget(f"{contest.factor:g} x Mosec's", contest.factor * medians[MOSEC], least=True)
        beside = Beside(MOSEC, medians[MOSEC], max(rates[MOSEC]))
    else:
        absent = report.find("load", name, MOSEC)
        note = f"Mosec: {absent.note}" if absent else ""
    report.rows.append(Row("load", name, medians[OURS], max(rates[OURS]), budget, beside, unit=RATE, note=note))
    race(report, name, medians, RATE)
