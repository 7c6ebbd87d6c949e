"""The row of TLS: 77 MB there and back, beside as many bytes by a raw TLS socket."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from socket import create_connection
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from bench.certificate import self_signed
from bench.children import running
from bench.measure import Effort, interleave
from bench.peers import OURS
from bench.report import Budget, Report
from bench.transport.raw import BUFFERS
from bench.transport.raw_tls import raw_tls_client
from bench.transport.replay import wire_sizes
from bench.workload import SHAPES, floats
from tensorwire import Client

ROW = "77 MB echo, TLS"
NO_OPENSSL = "no openssl command to make a certificate with"

_FACTOR = 1.3  # of the floor


def floor_name(subject: str) -> str:
    """What one of the floors of plain sockets is called with TLS."""
    return subject.replace("sockets", "TLS sockets")


_FLOORS = {floor_name(name): buffer for name, buffer in BUFFERS.items()}


def run(report: Report, effort: Effort) -> None:
    """Measure the row into the report."""
    with TemporaryDirectory(prefix="bench-") as folder:
        made = self_signed(Path(folder))
        if made is None:
            report.skip("transport", ROW, NO_OPENSSL)
            return
        with calls(Path(folder), *made) as cases:
            found = interleave(cases, effort)
    for subject, times in found.items():
        report.record("transport", ROW, subject, times)
    floor = min(_FLOORS, key=lambda subject: found[subject].median)
    report.add("transport", ROW, found, Budget(f"{_FACTOR:g} x floor", _FACTOR * found[floor].median), floor)


@contextmanager
def calls(folder: Path, cert: Path, key: Path) -> Iterator[dict[str, Callable[[], Any]]]:
    """Ours and the floors by name, ready to be called; all with one certificate and the cipher they agree on."""
    x = floats(SHAPES["77 MB"])
    place = f"unix:{folder / 'echo'}"
    options = ["--listen", "127.0.0.1:0", "--listen", place, "--tls-cert", str(cert), "--tls-key", str(key)]
    with ExitStack() as stack:
        url, plain = stack.enter_context(running("bench.server", "echo", *options))
        sizes = wire_sizes(plain, x)
        client = stack.enter_context(Client(url, verify=str(cert)))
        agreed = _cipher(url, cert)
        found: dict[str, Callable[[], Any]] = {OURS: partial(client.infer, {"x": x})}
        for subject, buffer in _FLOORS.items():
            raw = stack.enter_context(raw_tls_client(buffer, *sizes, cert, key))
            if raw.cipher != agreed:
                raise AssertionError(f"the floor speaks {raw.cipher}, the server {agreed}")
            found[subject] = raw
        yield found


def _cipher(url: str, cert: Path) -> str:
    """What a client with Python's defaults, as ours is, and this server agree on."""
    context = ssl.create_default_context(cafile=str(cert))
    parts = urlsplit(url)
    with (
        create_connection((parts.hostname, parts.port)) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as sock,
    ):
        found = sock.cipher()
    return found[0] if found else ""
