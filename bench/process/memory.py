"""The memory of a server process: at its peak with one 77 MB request in flight, and after many of mixed sizes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from time import sleep
from typing import Final

from bench.children import child
from bench.report import Beside, Budget, Measurement, Report, Row
from bench.status import peak, reset_peak, resident
from bench.workload import SHAPES, Array, floats
from tensorwire import Client

PAYLOADS: Final = {"echo": 1, "double": 2}
"""Tensors of 77 MB that a request and its answer are made of: an echo's answer is the request's own memory."""

_SETTLE = 0.5  # seconds, after which an idle server is at rest
_SHARE = 1.1  # of the payloads
_GROWTH = 1.05  # of the resident size, over a flat run
_MIX: Final[Mapping[str, int]] = {"4 kB": 80, "0.6 MB": 17, "6 MB": 3}  # requests of each size in a hundred


@dataclass(frozen=True)
class Peak:
    """Bytes: ``idle`` after a first small request, ``peak`` while a large one is answered, both resident."""

    idle: int
    peak: int


def run(report: Report, requests: int) -> None:
    """Measure the rows into the report; ``requests``: how many the flat run has."""
    for model, tensors in PAYLOADS.items():
        _peak_row(report, model, tensors)
    _flat_row(report, requests)


def measure_peak(model: str) -> Peak:
    """One request of 77 MB to a server that has only seen a small one."""
    with _server(model) as (pid, client):
        client.infer({"x": floats(SHAPES["4 kB"])})
        idle = _settled(pid)
        reset_peak(pid)
        client.infer({"x": floats(SHAPES["77 MB"])})
        return Peak(idle, peak(pid))


def measure_flat(requests: int) -> tuple[int, int]:
    """Resident bytes of an idle server after a tenth as many requests of mixed sizes, and after all of them."""
    values = {size: floats(SHAPES[size]) for size in _MIX}
    sizes = Random(0).choices(list(_MIX), list(_MIX.values()), k=requests)
    with _server("double") as (pid, client):
        for size in sizes[: requests // 10]:
            _ask(client, values[size])
        before = _settled(pid)
        for size in sizes:
            _ask(client, values[size])
        return before, _settled(pid)


def _ask(client: Client, x: Array) -> None:
    client.infer({"x": x})


@contextmanager
def _server(model: str) -> Iterator[tuple[int, Client]]:
    with child("bench.server", model, "--listen", "127.0.0.1:0") as found, Client(found.ready[0]) as client:
        yield found.pid, client


def _settled(pid: int) -> int:
    """Resident bytes at rest."""
    sleep(_SETTLE)
    return resident(pid)


def _peak_row(report: Report, model: str, tensors: int) -> None:
    name = f"memory for one 77 MB request, {model}"
    found = measure_peak(model)
    payloads = tensors * floats(SHAPES["77 MB"]).nbytes
    for subject, value in (("idle", found.idle), ("peak", found.peak), ("payloads", payloads)):
        report.measurements.append(Measurement("process", name, subject, "B", samples=[value]))
    budget = Budget("idle + 1.1 x payloads", found.idle + _SHARE * payloads)
    least = found.idle + payloads
    beside = Beside(f"idle ({found.idle / 1e6:.0f} MB) + payloads", least, least)
    report.rows.append(Row("process", name, found.peak, found.peak, budget, beside, unit="B"))


def _flat_row(report: Report, requests: int) -> None:
    name = f"memory after {requests:,} requests"
    before, after = measure_flat(requests)
    for subject, value in (("before", before), ("after", after)):
        report.measurements.append(Measurement("process", name, subject, "B", samples=[value]))
    budget = Budget(f"{_GROWTH:g} x before", _GROWTH * before)
    beside = Beside(f"after {requests // 10:,}", before, before)
    report.rows.append(Row("process", name, after, after, budget, beside, unit="B"))
