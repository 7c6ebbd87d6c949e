"""A TCP proxy that does to a connection what networks do."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Fault", "FaultProxy"]

_PIECE = 1 << 16
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() sends RST


@dataclass(frozen=True)
class Fault:
    """What happens to one direction of a connection.

    Every write has ``piece`` bytes at most, with ``delay`` seconds before it. In the place of what comes after
    ``after`` bytes, comes ``then``: "reset" (RST to both sides), "end" (the direction is half closed, the other
    goes on), "close" (both are closed) or "stall" (nothing more passes until the proxy is closed).
    """

    piece: int = _PIECE
    delay: float = 0.0
    after: int | None = None
    then: str = "stall"


class FaultProxy:
    """Listens on a port and passes on to another, with a fault in each direction."""

    def __init__(self, target: str, requests: Fault | None = None, answers: Fault | None = None) -> None:
        host, _, port = target.rpartition("//")[2].rpartition(":")
        self._target = (host, int(port))
        self._faults = requests or Fault(), answers or Fault()
        self._closing = threading.Event()
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        for sock in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(60)
        for sock in [self._listener, *self._sockets]:
            sock.close()
        assert not any(thread.is_alive() for thread in self._threads)

    def _start(self, work: object, *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            far = socket.create_connection(self._target)
            for sock in (near, far):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._sockets += [near, far]
            self._start(self._pass, near, far, self._faults[0])
            self._start(self._pass, far, near, self._faults[1])

    def _pass(self, source: socket.socket, sink: socket.socket, fault: Fault) -> None:
        passed = 0
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                allowed = len(data) if fault.after is None else min(len(data), fault.after - passed)
                for start in range(0, allowed, fault.piece):
                    if fault.delay:
                        time.sleep(fault.delay)
                    sink.sendall(data[start : min(start + fault.piece, allowed)])
                passed += allowed
                if allowed < len(data):
                    self._fail(source, sink, fault.then)
                    return
            sink.shutdown(socket.SHUT_WR)

    def _fail(self, source: socket.socket, sink: socket.socket, then: str) -> None:
        if then == "stall":
            self._closing.wait(60)
        elif then == "end":
            sink.shutdown(socket.SHUT_WR)
        else:
            for sock in (source, sink):
                if then == "reset":
                    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                sock.shutdown(socket.SHUT_RD)  # Wakes the other direction, whose recv() would keep it open.
                sock.close()
