"""The two roles of a peer's module, ``serve SCHEME PATH`` and ``call ADDRESS SIZE WAY``, and what they share.

Runs in the peer's environment: standard library, numpy, and nothing of ours that is installed.
"""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any

import numpy as np

from bench.turns import take_turns
from bench.workload import SHAPES, Array, floats

__all__ = ["Call", "connect", "free_port", "main", "ready", "wait_for"]

Call = Callable[[Array], Any]


def main(serve: Callable[[str, str], None], client: Callable[[str, Array, str], Call]) -> None:
    """Act as the command line says. ``serve(scheme, path)`` runs for ever; ``client(address, x, way)`` is called with
    the array that will be sent, and gives the function that sends it and returns the array that came back.
    """
    role, *rest = sys.argv[1:]
    if role == "serve":
        serve(rest[0], rest[1])
        return
    address, size, way = rest
    x = floats(SHAPES[size])
    call = client(address, x, way)
    y = call(x)
    if y.shape != x.shape or not np.array_equal(y, x):
        raise AssertionError("the echo is not what was sent")
    del y
    take_turns(lambda: call(x))


def ready(address: Any) -> None:
    """Say where the server is, now that it answers."""
    print(json.dumps(address), flush=True)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def connect(port: int, timeout: float = 120.0) -> HTTPConnection:
    """A kept-alive connection without Nagle's delay."""
    connection = HTTPConnection("127.0.0.1", port, timeout=timeout)
    connection.connect()
    connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return connection


def wait_for(port: int, method: str, path: str, body: bytes | None = None, seconds: float = 60.0) -> None:
    """Until this request is answered with 200. Raises TimeoutError."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            connection = connect(port, 5)
            connection.request(method, path, body)
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"no answer to {method} {path} within {seconds:g} s")
