"""What this host can do at most, and how much of it our echo reaches, measured in turns."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from socket import AF_UNIX, IPPROTO_TCP, SOCK_STREAM, TCP_NODELAY, create_connection, socket
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any, Final

import numpy as np

from tensorwire import Client, Request, TensorwireError, encode
from tensorwire.servers.doctor.peer import SIZES, block, receive

__all__ = ["Copy", "FloorError", "Trip", "measure"]

_SHAPES: Final = {"4 kB": (1024,), "77 MB": (18816, 1024)}
_HEAD: Final = 200  # bytes of an HTTP head, about
_SECONDS: Final = 0.4  # for one kind of round trip, ours or the floor's
_LEAST: Final = 3
_LISTENING: Final = re.compile(r"listening on (http\S+) (unix\S+)")


class FloorError(TensorwireError):
    """A process that is to be measured does not start."""


@dataclass(frozen=True)
class Copy:
    """A copy within warm memory: bytes, and median seconds."""

    nbytes: int
    seconds: float


@dataclass(frozen=True)
class Trip:
    """A round trip of as many bytes each way: median seconds of plain sockets (the floor) and of our echo."""

    transport: str
    size: str
    floor: float
    ours: float

    @property
    def reached(self) -> float:
        """The floor's share of our time: 1 is as fast as plain sockets."""
        return self.floor / self.ours


def measure(seconds: float = _SECONDS) -> tuple[Copy, list[Trip]]:
    """Measure for about ten times ``seconds``, and one more to start processes. Raises FloorError."""
    copy = _copy(seconds)
    trips = []
    with TemporaryDirectory(prefix="tensorwire-") as folder, ExitStack() as stack:
        raw, ours = Path(folder) / "raw", Path(folder) / "echo"
        port = stack.enter_context(_running("tensorwire.servers.doctor.peer", str(raw)))
        options = ("--listen", "127.0.0.1:0", "--listen", f"unix:{ours}", "--max-body", "1GiB", "--no-access-log")
        line = stack.enter_context(_running("tensorwire", "serve", "--echo", *options))
        listening = _LISTENING.match(line)
        if listening is None:
            raise FloorError(f"the echo server says {line!r}")
        for size, shape in _SHAPES.items():
            x = np.ones(shape, np.float32)
            places: list[tuple[str, int | str, str]] = [
                ("TCP", int(port), listening[1]),
                ("UNIX socket", str(raw), listening[2]),
            ]
            for transport, place, url in places:
                trips.append(Trip(transport, size, *_trip(place, url, x, seconds)))
    return copy, trips


def _copy(seconds: float) -> Copy:
    nbytes = encode(Request({"x": np.ones(_SHAPES["77 MB"], np.float32)})).nbytes
    source, target = (np.frombuffer(block(nbytes), np.uint8) for _ in range(2))
    (times,) = _in_turns([lambda: np.copyto(target, source)], seconds)
    return Copy(nbytes, times)


def _trip(place: int | str, url: str, x: np.ndarray[Any, Any], seconds: float) -> tuple[float, float]:
    nbytes = encode(Request({"x": x})).nbytes + _HEAD
    with _raw(place, nbytes) as floor, Client(url) as client:
        found = _in_turns([floor, lambda: client.infer({"x": x})], seconds)
    return found[0], found[1]


@contextmanager
def _raw(place: int | str, nbytes: int) -> Iterator[Callable[[], object]]:
    """Round trips over a plain socket to a TCP port or a UNIX socket's path."""
    if isinstance(place, int):
        sock = create_connection(("127.0.0.1", place))
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    else:
        sock = socket(AF_UNIX, SOCK_STREAM)
        sock.connect(place)
    outgoing, incoming = block(nbytes), block(nbytes)

    def trip() -> None:
        sock.sendall(outgoing)
        receive(sock, incoming)

    with sock:
        sock.sendall(SIZES.pack(nbytes, nbytes))
        yield trip


def _in_turns(calls: list[Callable[[], object]], seconds: float) -> list[float]:
    """Median seconds of each call; they take turns, so that what else the host does hits all alike."""
    for call in calls:
        call()
        call()
    times: list[list[float]] = [[] for _ in calls]
    end = perf_counter() + seconds * len(calls)
    while len(times[0]) < _LEAST or perf_counter() < end:
        for call, found in zip(calls, times, strict=True):
            start = perf_counter()
            call()
            found.append(perf_counter() - start)
    return [median(found) for found in times]


@contextmanager
def _running(module: str, *arguments: str) -> Iterator[str]:
    """A module in a process of its own, until the block ends; the first line it prints."""
    command = [sys.executable, "-P", "-m", module, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True)
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    try:
        line = process.stdout.readline().strip()
        if not line:
            told = process.stderr.read().strip().splitlines()[-1:]
            raise FloorError(f"{module} has ended with exit code {process.wait()}: {''.join(told)}")
        yield line
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            stream.close()
