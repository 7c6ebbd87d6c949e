"""Models that come and go: swaps under load, many models, loads and unloads, and the cost of looking."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

from bench.children import Child, ask, child
from bench.report import Beside, Budget, Measurement, Report, Row
from bench.repository.folders import prepare, publish
from bench.repository.serving import Serving, scratch, serving

_SUITE = "repository"
_CLIENTS = 8
_SPELL = 5.0  # seconds without a swap, before and after all
_BETWEEN = 1.0  # and in between
_SETTLED = 1.0  # seconds after which a start or a swap has no after-effects
_BATCH = 50  # swaps, back to back
_GROWTH = 1.05
_SLACK = 8 << 20  # bytes that an allocator may keep, of a process that has few to begin with


@dataclass(frozen=True)
class Changes:
    """How many versions are swapped, models served together, rounds of load and unload made, folders looked at."""

    swaps: int
    models: int
    rounds: int
    folders: int


def run(report: Report, changes: Changes) -> None:
    """Measure all rows into the report."""
    _swaps(report, changes.swaps)
    _many(report, changes.models)
    _rounds(report, changes.rounds, isolate=False)
    _rounds(report, changes.rounds // 10, isolate=True)
    _poll(report, changes.folders, 1)
    _poll(report, changes.folders, 0)


def _swaps(report: Report, count: int) -> None:
    """Version N + 1 appears, serves, and N is deleted, while clients ask. Quiet spells before, after and in between, so
    that both have the same of what else goes on.
    """
    with scratch() as folder:
        for number in range(1, count + 2):
            prepare(folder / "a", number)
        publish(folder / "a", 1)
        with serving(folder, ["a"]) as server, child("bench.repository.askers", server.url, str(_CLIENTS)) as askers:
            spells: dict[str, list[float]] = {"quiet": [], "swaps": []}
            wrong, seconds = 0, 0.0
            spells["quiet"] += _quiet(askers, _SPELL)
            for first in range(2, count + 2, _BATCH):
                began = perf_counter()
                for number in range(first, min(first + _BATCH, count + 2)):
                    found = _swap(server, askers, folder / "a", number)
                    # At least one of the two serves at any time, and nothing else may have answered.
                    wrong += len(found["failures"]) + len(set(found["values"]) - {number - 1, number})
                seconds += perf_counter() - began
                spells["swaps"] += askers.ask("times")
                spells["quiet"] += _quiet(askers, _SPELL if number == count + 1 else _BETWEEN)
            wrong += len(askers.ask("seen")["failures"])
    name = f"{count:,} swaps under load"
    p99 = {}
    for spell, values in spells.items():
        p99[spell] = sorted(values)[int(0.99 * len(values))]
        report.measurements.append(Measurement(_SUITE, f"{name}, p99", spell, samples=[p99[spell]]))
    quiet = Beside("quiet", p99["quiet"], p99["quiet"])
    told = f"{len(spells['swaps']):,} answers, {count / seconds:.1f} swaps a second"
    report.rows.append(
        Row(_SUITE, f"{name}, p99", p99["swaps"], p99["swaps"], Budget("2 x quiet", 2 * p99["quiet"]), quiet, note=told)
    )
    report.rows.append(
        Row(_SUITE, f"{name}, failed or by a wrong version", wrong, wrong, Budget("none", 0), unit="", note=told)
    )


def _swap(server: Serving, askers: Child, base: Path, number: int) -> Any:
    """What the clients saw while a version took the place of the one before."""
    publish(base, number)
    # The clients see by themselves when it answers. A page costs the server a fifth of what a swap does, so it is asked
    # for only then.
    askers.ask(f"until {number}")
    server.wait(lambda: server.serves(base.name) == [number], 0.02)
    shutil.rmtree(base / str(number - 1))
    return askers.ask("seen")


def _quiet(askers: Child, seconds: float) -> list[float]:
    """The times of requests while nothing changes."""
    sleep(_SETTLED)
    askers.ask("times")
    sleep(seconds)
    found: list[float] = askers.ask("times")
    return found


def _many(report: Report, count: int) -> None:
    names = [f"m{number}" for number in range(count)]
    with scratch() as folder:
        for number, name in enumerate(names, 1):
            prepare(folder / name, number)
            publish(folder / name, number)
        with serving(folder, names[:1]) as server:
            one = server.resident
        began = perf_counter()
        with serving(folder, names) as server:
            seconds = perf_counter() - began
            each = (server.resident - one) / (count - 1)
    report.measurements.append(Measurement(_SUITE, f"{count} models", "start to ready", samples=[seconds]))
    note = f"{each / 1e3:.0f} kB each"
    report.rows.append(Row(_SUITE, f"{count} models, start to ready", seconds, seconds, note=note))


def _rounds(report: Report, count: int, *, isolate: bool) -> None:
    """A model is loaded and unloaded beside one that stays."""
    with scratch() as folder:
        for name in ("a", "b"):
            prepare(folder / name, 1)
            publish(folder / name, 1)
        with serving(folder, ["a"], *(["--isolate"] if isolate else [])) as server:
            sizes = []
            for _ in range(count):
                _load(server, folder / "b")
                sizes.append(server.resident)
    before, after = sizes[len(sizes) // 5], sizes[-1]
    name = f"memory after {count:,} loads and unloads" + (", isolated" if isolate else "")
    for subject, value in (("after a fifth", before), ("after all", after)):
        report.measurements.append(Measurement(_SUITE, name, subject, "B", samples=[value]))
    budget = Budget(f"{_GROWTH:g} x after a fifth", max(_GROWTH * before, before + _SLACK))
    report.rows.append(
        Row(_SUITE, name, after, after, budget, Beside("after a fifth", before, before), unit="B")
    )


def _load(server: Serving, path: object) -> None:
    options = {"intra_op_num_threads": 1}
    answer = server.ask("/v1/models/b:load", "POST", {"path": str(path), "settle": 0, "options": options})
    if [version["state"] for version in answer["versions"]] != ["AVAILABLE"]:
        raise RuntimeError(f"not loaded: {answer}")
    server.ask("/v1/models/b:unload", "POST")


def _poll(report: Report, folders: int, latest: int) -> None:
    """``latest``: how many of the versions are served, 0: all."""
    looks = ask("bench.repository.poll", str(folders), str(latest))
    name = f"a look at {folders:,} versions{'' if latest else ', all served'}, processor time"
    report.measurements.append(Measurement(_SUITE, name, "ours", samples=looks))
    report.rows.append(Row(_SUITE, name, median(looks), min(looks), Budget("200 ms", 0.2)))
