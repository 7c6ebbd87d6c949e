"""The system's send queues: within a host they are as short as is fast, elsewhere as long as the system likes."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest
from bare_server import LOOPS, Echo, post

from tensorwire._address import tune
from tensorwire._net import Connection
from tensorwire.servers.fronts.tcp_connection import TcpConnection


def queue(sock: Any) -> int:
    nbytes: int = sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
    return nbytes


def tuned(listener: socket.socket, address: tuple[str, int]) -> tuple[int, int]:
    """The send queue of what a listener accepts, before it is tuned and after."""
    with listener, socket.create_connection(address), listener.accept()[0] as sock:
        before = queue(sock)
        tune(sock)
        return before, queue(sock)


def loopback() -> tuple[int, int]:
    listener = socket.create_server(("127.0.0.1", 0))
    return tuned(listener, listener.getsockname())


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="no socket for both IPv4 and IPv6")
def test_a_loopback_address_is_known_by_its_ipv6_name() -> None:
    listener = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    before, after = tuned(listener, ("127.0.0.1", listener.getsockname()[1]))
    assert before != after == loopback()[1]


@pytest.mark.parametrize("kind", LOOPS)
@pytest.mark.parametrize("protocol", [TcpConnection, Connection])
def test_a_servers_queue(kind: str, protocol: type[Connection]) -> None:
    before, after = loopback()
    queues: list[int] = []

    class Watched(protocol):  # type: ignore[misc, valid-type]
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            super().connection_made(transport)
            queues.append(queue(transport.get_extra_info("socket")))

    async def main() -> None:
        server = await asyncio.get_running_loop().create_server(lambda: Watched(Echo()), "127.0.0.1", 0)
        async with server:
            reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(post())
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.close()
            await writer.wait_closed()

    with asyncio.Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(main())
    assert before != after
    assert queues == [after if protocol is TcpConnection else before]
