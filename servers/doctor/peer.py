"""The other side of the floor's round trips: ``python -m tensorwire.servers.doctor.peer PATH``.

It listens on a TCP port, which it prints, and on a UNIX socket at PATH. A connection first says how many bytes a
request and an answer have (two 8-byte integers); from then on it gets an answer for each request. Nothing is parsed.
"""

from __future__ import annotations

import sys
from select import select
from socket import AF_UNIX, IPPROTO_TCP, MSG_WAITALL, SOCK_STREAM, TCP_NODELAY, create_server, socket
from struct import Struct

from tensorwire import Chunk

__all__ = ["SIZES", "block", "receive"]

SIZES = Struct("!QQ")
_PAGE = 4096


def block(nbytes: int) -> memoryview:
    """Memory as good as it gets: in huge pages where the system has them, and every page touched."""
    view = memoryview(Chunk(nbytes))
    for start in range(0, nbytes, _PAGE):
        view[start] = 1
    return view


def receive(sock: socket, view: memoryview) -> bool:
    """Fill the memory; False at the end of the stream."""
    got = 0
    while got < len(view):
        count = sock.recv_into(view[got:], 0, MSG_WAITALL)
        if not count:
            return False
        got += count
    return True


def _answer(sock: socket) -> None:
    sizes = memoryview(bytearray(SIZES.size))
    if not receive(sock, sizes):
        return
    incoming, outgoing = map(block, SIZES.unpack(sizes))
    while receive(sock, incoming):
        sock.sendall(outgoing)


def main(path: str) -> None:
    tcp = create_server(("127.0.0.1", 0))
    unix = socket(AF_UNIX, SOCK_STREAM)
    unix.bind(path)
    unix.listen()
    print(tcp.getsockname()[1], flush=True)
    while True:
        ready = select([tcp, unix, sys.stdin], [], [])[0]
        if sys.stdin in ready:
            return  # the end of the process that started this one
        for listener in (tcp, unix):
            if listener not in ready:
                continue
            sock, _ = listener.accept()
            with sock:
                if listener is tcp:
                    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
                _answer(sock)


if __name__ == "__main__":
    main(sys.argv[1])
