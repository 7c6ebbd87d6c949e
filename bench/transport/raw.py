"""The floor of a round trip: two processes, plain sockets, buffers that are there and warm, nothing parsed.

As a module it is the other side, ``python -m bench.transport.raw SCHEME BUFFER REQUEST RESPONSE ADDRESS``:
it receives REQUEST bytes and sends RESPONSE bytes, for ever.
"""

from __future__ import annotations

import json
import mmap
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from socket import (
    AF_INET,
    AF_UNIX,
    IPPROTO_TCP,
    SO_RCVBUF,
    SO_SNDBUF,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    socket,
)

from bench.children import running
from tensorwire.servers.doctor.peer import receive

BUFFERS = {"raw sockets": 0, "raw sockets, 512 kB buffers": 1 << 19}
"""The floor is the faster of these; the sizes are those of the kernel's buffers, 0 its own choice."""

_HUGE_PAGE = 1 << 21
_PAGE = 4096


def warm_block(nbytes: int) -> memoryview:
    """Memory as good as it gets: huge pages where the system has them, every page touched."""
    pages = nbytes // _HUGE_PAGE + 1
    block = mmap.mmap(-1, pages * _HUGE_PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        block.madvise(mmap.MADV_HUGEPAGE)
    view = memoryview(block)[:nbytes]
    for start in range(0, nbytes, _PAGE):
        view[start] = 1
    return view


def tune(sock: socket, buffer: int) -> None:
    """``buffer``: bytes of the kernel's send and receive buffers, 0 for its own choice."""
    if buffer:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, buffer)
        sock.setsockopt(SOL_SOCKET, SO_RCVBUF, buffer)
    if sock.family == AF_INET:
        sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)


class RawClient:
    """One round trip a call: as many bytes out and back as it was made for."""

    def __init__(self, scheme: str, buffer: int, request: int, response: int, address: str | list[object]) -> None:
        self._out = warm_block(request)
        self._back = warm_block(response)
        self._sock = socket(AF_UNIX if scheme == "unix" else AF_INET, SOCK_STREAM)
        tune(self._sock, buffer)
        self._sock.connect(address if isinstance(address, str) else tuple(address))

    def __call__(self) -> None:
        self._sock.sendall(self._out)
        receive(self._sock, self._back)

    def close(self) -> None:
        self._sock.close()


@contextmanager
def raw_client(scheme: str, buffer: int, request: int, response: int, path: str) -> Iterator[RawClient]:
    """A client and its other side. ``path`` is where a UNIX socket may be made."""
    sizes = [str(buffer), str(request), str(response)]
    with running("bench.transport.raw", scheme, *sizes, path) as address:
        client = RawClient(scheme, buffer, request, response, address)
        try:
            yield client
        finally:
            client.close()


def _serve(scheme: str, buffer: int, request: int, response: int, path: str) -> None:
    listener = socket(AF_UNIX if scheme == "unix" else AF_INET, SOCK_STREAM)
    tune(listener, buffer)  # what is accepted inherits it
    listener.bind(path if scheme == "unix" else ("127.0.0.1", 0))
    listener.listen(1)
    incoming, outgoing = warm_block(request), warm_block(response)
    print(json.dumps(listener.getsockname()), flush=True)
    sock, _ = listener.accept()
    tune(sock, buffer)
    while receive(sock, incoming):
        sock.sendall(outgoing)


if __name__ == "__main__":
    _, _scheme, _buffer, _request, _response, _path = sys.argv
    _serve(_scheme, int(_buffer), int(_request), int(_response), _path)
