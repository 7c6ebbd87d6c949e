"""HTTP by hand: a plain socket that sends exactly the bytes a test wants and takes responses apart."""

from __future__ import annotations

import select
import socket
import ssl
import struct
from dataclasses import dataclass
from types import TracebackType
from typing import Self
from urllib.parse import unquote, urlsplit

TIMEOUT = 20.0  # seconds without a byte before a test fails


@dataclass(frozen=True)
class Answer:
    """One response; ``fields`` by lower-case name."""

    status: int
    fields: dict[str, str]
    body: bytes


class Raw:
    """A connection to a server's URL (http://, unix://, or https:// with a context)."""

    sock: socket.socket

    def __init__(self, url: str, context: ssl.SSLContext | None = None) -> None:
        parts = urlsplit(url)
        if parts.scheme == "unix":
            self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self.sock.settimeout(TIMEOUT)
            try:
                self.sock.connect(unquote(parts.path))
            except OSError:
                self.sock.close()
                raise
        else:
            self.sock = socket.create_connection((parts.hostname or "", parts.port or 80), TIMEOUT)
            if context is not None:
                try:
                    self.sock = context.wrap_socket(self.sock, server_hostname=parts.hostname)
                except OSError:
                    self.sock.close()
                    raise
        self._buffer = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sock.close()

    def readable(self, seconds: float) -> bool:
        """Whether something came within so many seconds (of a plain connection)."""
        return bool(self._buffer) or bool(select.select([self.sock], [], [], seconds)[0])

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def post(self, body: bytes, path: str = "/", *fields: str) -> Answer:
        self.send(post(body, path, *fields))
        return self.answer()

    def get(self, path: str, method: str = "GET", *fields: str) -> Answer:
        self.send(head(method, path, *fields))
        return self.answer(bodiless=method == "HEAD")

    def answer(self, bodiless: bool = False) -> Answer:
        """The next response, with an interim one (100) as a response of its own."""
        lines = self._until(b"\r\n\r\n").split(b"\r\n")
        status = int(lines[0].split(b" ")[1])
        fields = {}
        for line in lines[1:]:
            name, _, value = line.decode("latin-1").partition(":")
            fields[name.strip().lower()] = value.strip()
        if bodiless or status < 200:
            return Answer(status, fields, b"")
        size = int(fields["content-length"])
        while len(self._buffer) < size:
            self._buffer += self._receive()
        body, self._buffer = self._buffer[:size], self._buffer[size:]
        return Answer(status, fields, body)

    def at_end(self) -> bool:
        """True when the server has closed and nothing is left to read; waits for one of both."""
        try:
            return not self._buffer and not self.sock.recv(1)
        except ConnectionResetError:
            return True

    def reset(self) -> None:
        """Break the connection: the server gets an error at once, not an end of what was sent."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def _until(self, mark: bytes) -> bytes:
        while mark not in self._buffer:
            self._buffer += self._receive()
        before, _, self._buffer = self._buffer.partition(mark)
        return before

    def _receive(self) -> bytes:
        data = self.sock.recv(1 << 16)
        if not data:
            raise EOFError(f"the server closed after {self._buffer!r}")
        return data


def head(method: str, path: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: test", *fields, "", ""]).encode()


def post(body: bytes, path: str = "/", *fields: str) -> bytes:
    if not any(field.lower().startswith("content-type") for field in fields):
        fields = ("Content-Type: application/octet-stream", *fields)
    return head("POST", path, f"Content-Length: {len(body)}", *fields) + body


def chunked(body: bytes, size: int = 1000, path: str = "/") -> bytes:
    """A POST with a chunked body, ``size`` bytes a chunk."""
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    coded = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return head("POST", path, "Transfer-Encoding: chunked") + coded + b"0\r\n\r\n"


def send_in_two(raw: Raw, ping: Raw, data: bytes, at: int) -> None:
    """Send so that the server reads the first ``at`` bytes before the others come; ``ping`` is another connection."""
    raw.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.send(data[:at])
    # A page's answer is made in a turn of the server's loop after the one in which its request was read.
    ping.get("/healthz")
    raw.send(data[at:])
