"""Connections over TCP: shorter queues within a host."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tensorwire._address import tune
from tensorwire._net import Connection

__all__ = ["TcpConnection"]


class TcpConnection(Connection):
    """One over TCP, whose send queue would grow to megabytes: within a host a core's cache should hold it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        sock = transport.get_extra_info("socket")
        if sock is not None:
            with suppress(OSError):  # the peer is gone already
                tune(sock)
        super().connection_made(transport)
