"""A small HTTP proxy: requests in absolute form are passed on, CONNECT makes a tunnel."""

from __future__ import annotations

import contextlib
import socket
import threading
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

__all__ = ["HttpProxy"]

_PIECE = 1 << 16


class HttpProxy:
    """Listens on a port of its own; ``seen`` has the request line of each request, in order.

    ``authorization``: the Proxy-Authorization that it wants, or 407. ``answer``: what it says to CONNECT instead.
    """

    def __init__(self, authorization: str = "", answer: bytes = b"") -> None:
        self.seen: list[str] = []
        self.accepted = 0
        self._authorization = authorization
        self._answer = answer
        self._sockets: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.url = f"http://{self.address}"
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
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
            self._sockets.append(near)
            self._start(self._serve, near)

    def _serve(self, near: socket.socket) -> None:
        with contextlib.suppress(OSError, EOFError):
            far: socket.socket | None = None
            while True:
                line, fields, rest = _head(near)
                self.seen.append(line)
                if self._authorization and fields.get("proxy-authorization") != self._authorization:
                    near.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")
                    return
                method, target, _ = line.split(" ")
                if method == "CONNECT":
                    self._tunnel(near, target)
                    return
                parts = urlsplit(target)
                if far is None:
                    far = self._connect(parts.netloc)
                kept = [f"{name}: {value}" for name, value in fields.items() if not name.startswith("proxy-")]
                path = parts.path + (f"?{parts.query}" if parts.query else "")
                far.sendall("\r\n".join([f"{method} {path} HTTP/1.1", *kept, "", ""]).encode())
                _pass(near, far, rest, int(fields["content-length"]))
                line, fields, rest = _head(far)
                near.sendall(
                    "\r\n".join([line, *(f"{name}: {value}" for name, value in fields.items()), "", ""]).encode()
                )
                _pass(far, near, rest, int(fields["content-length"]))
        with contextlib.suppress(OSError):
            near.shutdown(socket.SHUT_RDWR)

    def _tunnel(self, near: socket.socket, target: str) -> None:
        if self._answer:
            near.sendall(self._answer)
            near.shutdown(socket.SHUT_WR)
            while near.recv(_PIECE):
                pass
            return
        far = self._connect(target)
        for byte in b"HTTP/1.1 200 Connection established\r\nVia: test\r\n\r\n":
            near.sendall(bytes([byte]))
        self._start(_pump, far, near)
        _pump(near, far)

    def _connect(self, authority: str) -> socket.socket:
        host, _, port = authority.rpartition(":")
        far = socket.create_connection((host.strip("[]"), int(port)))
        self._sockets.append(far)
        return far


def _head(sock: socket.socket) -> tuple[str, dict[str, str], bytes]:
    """First line, fields by lower-case name, and the bytes that came after the head."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(_PIECE)
        if not piece:
            raise EOFError
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    line, *fields = head.decode("latin-1").split("\r\n")
    return line, {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}, rest


def _pass(source: socket.socket, sink: socket.socket, data: bytes, length: int) -> None:
    """A body of ``length`` bytes, of which ``data`` is here."""
    while True:
        sink.sendall(data)
        length -= len(data)
        if length <= 0:
            return
        data = source.recv(min(length, _PIECE))
        if not data:
            raise EOFError


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_PIECE):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
