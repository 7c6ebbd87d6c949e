"""How many bytes a round trip moves, heads included: the client's request is recorded, and sent once more."""

from __future__ import annotations

from contextlib import suppress
from socket import AF_INET, AF_UNIX, SOCK_STREAM, create_server, socket
from threading import Thread
from urllib.parse import urlsplit

from bench.workload import Array
from tensorwire import Client, ConnectionLost

_PIECE = 1 << 20


def read_message(sock: socket) -> bytes:
    """One HTTP message with a Content-Length: head and body."""
    data = bytearray()
    total: int | None = None
    while total is None or len(data) < total:
        piece = sock.recv(_PIECE)
        if not piece:
            raise ConnectionError("the stream ended within a message")
        data += piece
        if total is None and (end := data.find(b"\r\n\r\n")) >= 0:
            fields = bytes(data[:end]).lower().partition(b"content-length:")
            total = end + 4 + int(fields[2].split(b"\r\n")[0])
    return bytes(data)


def record(x: Array) -> bytes:
    """What the client writes for ``infer({"x": x})``."""
    recorded: list[bytes] = []
    with create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            sock, _ = listener.accept()
            with sock:
                recorded.append(read_message(sock))

        thread = Thread(target=serve)
        thread.start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with Client(url) as client, suppress(ConnectionLost):  # it gets no answer
            client.infer({"x": x})
        thread.join()
    return recorded[0]


def connect(url: str) -> socket:
    """A plain socket to a server's address."""
    parts = urlsplit(url)
    sock = socket(AF_UNIX if parts.scheme == "unix" else AF_INET, SOCK_STREAM)
    sock.connect(parts.path if parts.scheme == "unix" else (parts.hostname, parts.port))
    return sock


def wire_sizes(url: str, x: Array) -> tuple[int, int]:
    """Bytes of the request and of the answer."""
    request = record(x)
    with connect(url) as sock:
        sock.sendall(request)
        return len(request), len(read_message(sock))
