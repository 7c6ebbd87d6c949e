"""A scripted server: each connection it accepts is played by the next of a test's functions."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import socket
import ssl
import struct
import threading
from collections.abc import AsyncGenerator, Callable, Iterator
from typing import Any, Self

import numpy as np
import uvloop

import tensorwire as tw
from tensorwire._address import Address, request_head
from tensorwire._answer import Answer
from tensorwire._async_http import AsyncConnection
from tensorwire._http import Connection
from tensorwire._limit import TimeLimit

LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}
Script = Callable[[socket.socket], None]

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
SMALL = tw.encode(tw.Request({"x": np.arange(4.0)}))
LARGE = tw.encode(tw.Request({"x": np.ones(50_000_000, np.uint8)}))


def read_head(sock: socket.socket) -> tuple[bytes, bytes]:
    """The next request's head, and the bytes that came with it; both empty at the end of the stream."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = sock.recv(65536)
        if not piece:
            return b"", data
        data += piece
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, rest


def read_request(sock: socket.socket) -> tuple[bytes, bytes]:
    """The next request: head and body. Raises ConnectionError when the client gives up on it."""
    head, body = read_head(sock)
    length = 0
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    pieces = [body]
    got = len(body)
    while got < length:
        piece = sock.recv(1 << 20)
        if not piece:
            raise ConnectionError(f"{got} of {length} bytes came")
        pieces.append(piece)
        got += len(piece)
    return head, b"".join(pieces)


def answer(body: bytes, status: str = "200 OK", *fields: str) -> bytes:
    """A response with a Content-Length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *fields, "", ""]
    return "\r\n".join(lines).encode() + body


def until_closed(sock: socket.socket) -> None:
    """Read nothing more that matters; return when the client has closed."""
    while sock.recv(1 << 16):
        pass


class Server:
    """Listens, and plays one script for each connection, each in a thread; what they raise fails the test."""

    def __init__(self, scripts: tuple[Script, ...], path: str, context: ssl.SSLContext | None) -> None:
        self.requests: list[tuple[bytes, bytes]] = []
        self.accepted = 0
        self.errors: list[BaseException] = []
        self._scripts = scripts
        self._context = context
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        if path:
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(path)
            self._listener.listen()
            self.url = f"unix://{path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            scheme = "https" if context else "http"
            self.url = f"{scheme}://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def read(self, sock: socket.socket) -> tuple[bytes, bytes]:
        """The next request, noted in ``requests``."""
        head, body = read_request(sock)
        if head:
            with self._lock:
                self.requests.append((head, body))
        return head, body

    def join(self) -> None:
        """Wait for the scripts under way to end."""
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)

    def close(self) -> None:
        with contextlib.suppress(OSError):  # It is closed when all scripts are played.
            self._listener.shutdown(socket.SHUT_RDWR)  # Wakes accept().
        self._thread.join(60)
        self.join()

    def _accept(self) -> None:
        for script in self._scripts:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                break
            self.accepted += 1
            thread = threading.Thread(target=self._play, args=(script, sock))
            self._threads.append(thread)
            thread.start()
        self._listener.close()  # Whoever comes now is refused, rather than left waiting.

    def _play(self, script: Script, sock: socket.socket) -> None:
        sock.settimeout(15)
        try:
            if self._context is not None:
                sock = self._context.wrap_socket(sock, server_side=True)
            script(sock)
        except ConnectionError:
            pass  # A client may give up early.
        except BaseException as error:
            self.errors.append(error)
        finally:
            sock.close()


Start = Callable[..., Server]


def replies(server: list[Server], *data: bytes) -> Callable[[socket.socket], None]:
    """A script that reads a request and sends data, for each of data; then waits for the client to close."""

    def script(sock: socket.socket) -> None:
        for piece in data:
            server[0].read(sock)
            sock.sendall(piece)
        until_closed(sock)

    return script


def play(start: Start, *data: bytes, **options: Any) -> Server:
    """A server with one connection that answers each request with the next of data."""
    holder: list[Server] = []
    holder.append(start(replies(holder, *data), **options))
    return holder[0]


def sends(data: bytes) -> Callable[[socket.socket], None]:
    """A script that reads a request, sends data and closes."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(data)

    return script


def resets(data: bytes) -> Callable[[socket.socket], None]:
    """A script that reads a request, sends data and resets the connection."""

    def script(sock: socket.socket) -> None:
        read_request(sock)
        sock.sendall(data)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return script


class Exchange:
    """A connection to a server, closed at the end of a with block; ``exchange.send()`` is one exchange."""

    loop: Callable[[], asyncio.AbstractEventLoop] | None = None  # set for a connection of such an event loop

    def __init__(self, server: Server, **options: Any) -> None:
        address = Address(server.url)
        options.setdefault("connect_timeout", 5.0)
        arguments = address, request_head(address, None)
        if self.loop is None:
            self.connection: Any = Connection(*arguments, **options)
        else:
            self.connection = Driven(AsyncConnection(*arguments, **options), self.loop)

    def __enter__(self) -> Callable[..., Answer]:
        return self.send

    def __exit__(self, *details: object) -> None:
        if isinstance(self.connection, Driven):
            self.connection.__exit__()
        else:
            self.connection.close()

    def send(self, frame: tw.Frame = SMALL, stall: float | None = 10.0) -> Answer:
        answer = self.connection.exchange(frame, TimeLimit(stall))
        assert isinstance(answer, Answer)
        return answer


class Driven:
    """An asynchronous object whose methods are called as if they were not; closed, it closes its loop."""

    def __init__(self, driven: Any, loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
        self._driven = driven
        self._ended = False
        self._runner = asyncio.Runner(loop_factory=loop)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        if not self._ended:
            self._ended = True
            self.close()
            if isinstance(self._driven, AsyncConnection):
                self._runner.run(self._driven.wait_closed())
            self._runner.close()

    def __repr__(self) -> str:
        return repr(self._driven)

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._driven, name)
        return functools.partial(self._call, member) if callable(member) else member

    def _call(self, member: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        result = member(*arguments, **options)
        if inspect.isasyncgen(result):
            return self._iterate(result)
        return self._runner.run(result) if inspect.iscoroutine(result) else result

    def _iterate(self, results: AsyncGenerator[Any, None]) -> Iterator[Any]:
        try:
            while True:
                try:
                    yield self._runner.run(anext(results))
                except StopAsyncIteration:
                    return
        finally:
            self._runner.run(results.aclose())
