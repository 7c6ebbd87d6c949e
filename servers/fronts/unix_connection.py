"""Connections over a UNIX socket: larger queues, and peers that say less about their end."""

from __future__ import annotations

import asyncio
import select
import socket

from tensorwire._net import Connection

__all__ = ["UnixConnection"]

_SNDBUF = 512 << 10  # bytes; with the kernel's 208 KiB the two sides wait for each other often: bench/NOTES.md


class UnixConnection(Connection):
    """One over a UNIX socket, whose own send queue is too short for large answers."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SNDBUF)
        self._sock = sock
        super().connection_made(transport)

    def eof_received(self) -> bool | None:
        # There are no resets. But who has closed can be told from who has only closed the sending side.
        ends = select.poll()
        ends.register(self._sock, 0)  # POLLHUP comes unasked
        if ends.poll(0):
            self.abort()
        return super().eof_received()
