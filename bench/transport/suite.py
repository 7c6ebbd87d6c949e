"""The transport's rows: round trips to a server in another process, beside raw sockets and as many bytes."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from bench.children import running
from bench.measure import Effort, interleave
from bench.peers import ORIGINAL, OURS
from bench.peers.races import race
from bench.peers.servers import MEMORY, callers
from bench.report import Budget, Report
from bench.transport import slow_clients, tls
from bench.transport.raw import BUFFERS, raw_client
from bench.transport.replay import wire_sizes
from bench.turns import Turns
from bench.workload import SHAPES, floats
from tensorwire import Client

TRIPS = {
    "GraphPipe's workload": ("features", "77 MB"),
    "77 MB echo": ("echo", "77 MB"),
    "4 kB echo": ("echo", "4 kB"),
}
"""Name: the server's model and the size of the request."""

PEERS_TRIP = "77 MB echo"
"""The round trip that the servers in bench/peers/servers make, too."""

_SMALL_LIMITS = {"tcp": 80e-6, "unix": 70e-6}  # seconds for a round trip of 4 kB
_FACTOR = 1.2  # of the floor, for large ones


def run(report: Report, effort: Effort) -> None:
    """Measure all round trips into the report."""
    with TemporaryDirectory(prefix="bench-") as folder:
        for name, (model, size) in TRIPS.items():
            path = Path(folder) / f"{model}-{size.replace(' ', '')}"
            with running("bench.server", model, "--listen", "127.0.0.1:0", "--listen", f"unix:{path}") as urls:
                for scheme, url in zip(("tcp", "unix"), urls, strict=True):
                    _trip(report, effort, name, size, scheme, url, Path(folder))
    tls.run(report, effort)
    slow_clients.run(report, effort)


def _trip(report: Report, effort: Effort, name: str, size: str, scheme: str, url: str, folder: Path) -> None:
    x = floats(SHAPES[size])
    request, response = wire_sizes(url, x)
    row = f"{name}, {'TCP' if scheme == 'tcp' else 'UNIX socket'}"
    calls: dict[str, Callable[[], Any] | Turns] = {}
    with ExitStack() as stack:
        client = stack.enter_context(Client(url))
        calls[OURS] = partial(client.infer, {"x": x})
        for number, (subject, buffer) in enumerate(BUFFERS.items()):
            path = folder / f"raw-{name.partition(' ')[0]}-{number}"
            path.unlink(missing_ok=True)
            calls[subject] = stack.enter_context(raw_client(scheme, buffer, request, response, str(path)))
        original = _original(url, x) if scheme == "tcp" else None
        if original is not None:
            calls[ORIGINAL] = original
        if name == PEERS_TRIP:
            calls |= _peers(report, stack, row, scheme, size, folder)
        found = interleave(calls, effort)
    for subject, times in found.items():
        report.record("transport", row, subject, times)
    floor = min(BUFFERS, key=lambda subject: found[subject].median)
    if size == "4 kB":
        limit = _SMALL_LIMITS[scheme]
        budget = Budget(f"{limit * 1e3:g} ms", limit)
    else:
        budget = Budget(f"{_FACTOR:g} x floor", _FACTOR * found[floor].median)
    report.add("transport", row, found, budget, floor)
    if name == PEERS_TRIP:
        _stand(report, row, {subject: times.median for subject, times in found.items() if subject not in BUFFERS})


def _peers(report: Report, stack: ExitStack, row: str, scheme: str, size: str, folder: Path) -> dict[str, Turns]:
    found, absent = callers(stack, scheme, size, folder)
    for subject, reason in absent.items():
        report.note("transport", row, subject, reason)
    return found


def _stand(report: Report, row: str, medians: dict[str, float]) -> None:
    """Among the servers, and beside Triton alone, which by shared memory is in a race of its own."""
    race(report, row, {subject: value for subject, value in medians.items() if subject != MEMORY})
    for subject, value in medians.items():
        if subject.startswith("Triton"):
            race(report, f"{row}: Triton", {OURS: medians[OURS], subject: value})


def _original(url: str, x: Any) -> Callable[[], Any] | None:
    """The original package's client on the same server: a new connection a request, which is its way."""
    try:
        from graphpipe import remote
    except ModuleNotFoundError:
        return None
    return partial(remote.execute, url, x)
