"""Mosec: one worker process with a Python model, raw bytes over HTTP as its documentation has it for binary data.

Called by Python's HTTP client into memory that is there.
"""

from __future__ import annotations

import sys
from threading import Thread
from typing import Any

import numpy as np
from mosec import Server, Worker

from bench.peers.servers.roles import Call, connect, free_port, main, ready, wait_for
from bench.workload import Array

_LARGEST = 1 << 30  # bytes of a request; Mosec's own limit is 10 MiB


class Echo(Worker):  # type: ignore[misc]  # mosec is unknown outside its environment
    def deserialize(self, data: bytes) -> Any:
        return np.frombuffer(data, np.float32)

    def serialize(self, data: Any) -> bytes:
        return bytes(data.tobytes())

    def forward(self, data: Any) -> Any:
        return data


class Double(Echo):
    def forward(self, data: Any) -> Any:
        return data * 2


def serve(scheme: str, path: str) -> None:
    """``path`` "double" serves a function instead of the identity."""
    port = free_port()
    # Mosec reads the command line itself.
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", str(port), "--max-request-size", str(_LARGEST)]
    sys.argv += ["--timeout", "60000"]

    def announce() -> None:
        wait_for(port, "POST", "/inference", np.zeros(4, np.float32).tobytes())
        ready(f"http://127.0.0.1:{port}/inference")

    Thread(target=announce, daemon=True).start()
    server = Server()
    server.append_worker(Double if path == "double" else Echo, num=1)
    server.run()


def client(address: str, x: Array, way: str) -> Call:
    connection = connect(int(address.rpartition(":")[2].partition("/")[0]))

    def call(x: Array) -> Array:
        connection.request("POST", "/inference", x.reshape(-1).view(np.uint8).data)
        response = connection.getresponse()
        if response.status != 200:
            raise ConnectionError(f"{response.status} {response.read(200)!r}")
        y = np.empty_like(x)
        view, got = y.reshape(-1).view(np.uint8).data, 0
        while got < len(view):
            count = response.readinto(view[got:])
            if not count:
                raise ConnectionError("the answer is too short")
            got += count
        response.read()
        return y

    return call


if __name__ == "__main__":
    main(serve, client)
