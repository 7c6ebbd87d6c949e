"""ZeroMQ: a REP socket that sends back the frame it received, a REQ socket that sends the array's own memory.

As fast as pyzmq goes: ``copy=False`` both ways, raw bytes, the shape agreed on beforehand.
"""

from __future__ import annotations

import numpy as np
import zmq

from bench.peers.servers.roles import Call, main, ready
from bench.workload import Array


def serve(scheme: str, path: str) -> None:
    sock = zmq.Context().socket(zmq.REP)
    sock.bind(f"ipc://{path}" if scheme == "unix" else "tcp://127.0.0.1:*")
    ready(sock.getsockopt_string(zmq.LAST_ENDPOINT))
    while True:
        sock.send(sock.recv(copy=False), copy=False)


def client(address: str, x: Array, way: str) -> Call:
    sock = zmq.Context().socket(zmq.REQ)
    sock.connect(address)

    def call(x: Array) -> Array:
        sock.send(x, copy=False)
        return np.frombuffer(sock.recv(copy=False).buffer, x.dtype).reshape(x.shape)

    return call


if __name__ == "__main__":
    main(serve, client)
