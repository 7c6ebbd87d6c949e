"""A good client's latency while 1,000 slow ones are connected, beside its latency without them.

As a module it is the slow ones: ``python -m bench.transport.slow_clients URL REQUEST``, with a request in a file. A
third of them send its head a byte at a time, a third the body, the rest send it whole and read the answer by the byte.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import cycle
from math import ceil
from pathlib import Path
from select import select
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Final

from bench.children import child, raise_descriptor_limit, running
from bench.measure import Effort
from bench.report import Beside, Budget, Measurement, Report, Row
from bench.transport.replay import connect, record
from bench.workload import SHAPES, floats
from tensorwire import Client

COUNT: Final = 1000
PERCENTILES: Final = {"p50": 0.5, "p99": 0.99}

_FACTOR = 3  # times the quiet latency
_STEP = 1e-3  # seconds from one byte to the next one's, of the next client: each has its turn once a second
_ROUNDS = 4
_QUIET, _BUSY = "quiet", f"beside {COUNT:,} slow clients"


def run(report: Report, effort: Effort) -> None:
    """Measure the rows into the report: spells without and with the slow ones, in turns."""
    taken = measure(effort.seconds / _ROUNDS / 2)
    for name, share in PERCENTILES.items():
        row = f"4 kB echo, {COUNT:,} slow clients, {name}"
        found = {subject: [_percentile(spell, share) for spell in spells] for subject, spells in taken.items()}
        for subject, samples in found.items():
            report.measurements.append(Measurement("transport", row, subject, samples=samples))
        quiet, busy = median(found[_QUIET]), median(found[_BUSY])
        budget = Budget(f"{_FACTOR:g} x quiet", _FACTOR * quiet)
        beside = Beside(_QUIET, quiet, min(found[_QUIET]))
        report.rows.append(Row("transport", row, busy, min(found[_BUSY]), budget, beside))


def measure(seconds: float) -> dict[str, list[list[float]]]:
    """Seconds of each of the good client's calls, in spells of so many seconds: quiet ones, and beside slow ones."""
    x = floats(SHAPES["4 kB"])
    taken: dict[str, list[list[float]]] = {_QUIET: [], _BUSY: []}
    with running("bench.server", "echo", "--listen", "127.0.0.1:0") as urls, Client(urls[0]) as client:
        _spell(client, x, seconds)
        for _ in range(_ROUNDS):
            taken[_QUIET].append(_spell(client, x, seconds))
            with slow_clients(urls[0]):
                taken[_BUSY].append(_spell(client, x, seconds))
    return taken


@contextmanager
def slow_clients(url: str) -> Iterator[None]:
    """All of them connected and at it, from a process of their own, until the block ends."""
    with TemporaryDirectory(prefix="bench-") as folder:
        request = Path(folder) / "request"
        request.write_bytes(record(floats(SHAPES["4 kB"])))
        with child("bench.transport.slow_clients", url, str(request)) as crew:
            if crew.ready != COUNT:
                raise AssertionError(f"{crew.ready} slow clients are connected, not {COUNT}")
            yield
            if (left := crew.ask("how many are connected?")) != COUNT:
                raise AssertionError(f"{left} of {COUNT} slow clients are still connected")


def _spell(client: Client, x: object, seconds: float) -> list[float]:
    found = []
    until = perf_counter() + seconds
    while (start := perf_counter()) < until:
        client.infer({"x": x})
        found.append(perf_counter() - start)
    return found


def _percentile(values: list[float], share: float) -> float:
    return sorted(values)[ceil(share * len(values)) - 1]


class _Slow:
    """A connection that has so much of its request ready at once, and the rest and the answer by the byte."""

    def __init__(self, url: str, request: bytes, at_once: int) -> None:
        self.connected = True
        self._sock = connect(url)
        self._sock.sendall(request[:at_once])
        self._sock.setblocking(False)
        self._rest = memoryview(request)[at_once:]

    def step(self) -> None:
        """One byte more, if the server is ready for it."""
        try:
            if self._rest:
                self._rest = self._rest[self._sock.send(self._rest[:1]) :]
            elif not self._sock.recv(1):
                self.connected = False
        except BlockingIOError:
            pass
        except OSError:
            self.connected = False


def _be_slow(url: str, request: bytes) -> None:
    raise_descriptor_limit()
    head = request.index(b"\r\n\r\n") + 4
    crew = [_Slow(url, request, (0, head, len(request))[number % 3]) for number in range(COUNT)]
    print(json.dumps(len(crew)), flush=True)
    for slow in cycle(crew):
        slow.step()
        if select([sys.stdin], [], [], _STEP)[0]:
            if not sys.stdin.readline():
                return
            print(json.dumps(sum(slow.connected for slow in crew)), flush=True)


if __name__ == "__main__":
    _be_slow(sys.argv[1], Path(sys.argv[2]).read_bytes())
