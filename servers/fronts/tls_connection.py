"""Connections that speak TLS: large answers are encrypted piece by piece, while what is ready is being sent."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, cast

from tensorwire._net import Connection

__all__ = ["TlsConnection"]

_PIECE = 256 << 10  # bytes encrypted at a time; bench/NOTES.md has the measurements


class TlsConnection(Connection):
    """One accepted connection over TLS."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.BaseTransport, _Piecewise(transport)))


class _Piecewise:
    """A transport whose ``writelines`` hands over a piece at a time. Loops encrypt all that they are given at once
    before they send the first byte of it, and hold all of it twice.
    """

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def writelines(self, buffers: Iterable[Any]) -> None:
        write = self._transport.write
        for buffer in buffers:
            view = memoryview(buffer)
            if not view.nbytes:
                continue
            view = view.cast("B")
            for start in range(0, len(view), _PIECE):
                write(view[start : start + _PIECE])
