"""Servers that a user could pick instead: each in processes of its own, out of an environment of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.children import ChildFailed, child
from bench.peers.servers.environments import MissingPeer, find_python
from bench.turns import Turns


@dataclass(frozen=True)
class PeerServer:
    """A server and a way to call it.

    ``module``: the file here that has both sides; ``way``: what its client is told; ``needs``: the packages that both
    import; ``schemes``: the rows where it takes part. Shared memory takes the place of a UNIX socket.
    """

    module: str
    needs: tuple[str, ...]
    schemes: tuple[str, ...]
    way: str = ""


MEMORY: Final = "Triton, shared memory"

SERVERS: Final[Mapping[str, PeerServer]] = {
    "ZeroMQ, copy=False": PeerServer("zmq_echo", ("zmq", "numpy"), ("tcp", "unix")),
    "Arrow Flight": PeerServer("flight_echo", ("pyarrow", "numpy"), ("tcp", "unix")),
    "Mosec": PeerServer("mosec_echo", ("mosec", "numpy"), ("tcp",)),
    "Triton, tritonclient": PeerServer("triton_echo", ("pytriton", "tritonclient", "numpy"), ("tcp",), "http"),
    MEMORY: PeerServer("triton_echo", ("pytriton", "tritonclient", "numpy"), ("unix",), "memory"),
}
"""By the name in the tables."""


@contextmanager
def serving(peer: PeerServer, scheme: str, path: str) -> Iterator[str]:
    """The server's address, until the block ends. ``path``: where a UNIX socket may be made.

    Raises MissingPeer when its packages are not there, ChildFailed when it does not start.
    """
    with child(f"bench.peers.servers.{peer.module}", "serve", scheme, path, python=find_python(peer.needs)) as server:
        yield server.ready


@contextmanager
def calling(peer: PeerServer, address: str, size: str) -> Iterator[Turns]:
    """Its client, which has checked one answer and waits for its turns."""
    arguments = ["call", address, size, peer.way]
    with child(f"bench.peers.servers.{peer.module}", *arguments, python=find_python(peer.needs)) as client:
        yield Turns(client)


def callers(stack: ExitStack, scheme: str, size: str, folder: Path) -> tuple[dict[str, Turns], dict[str, str]]:
    """Start all of a scheme's, until the stack is closed: those that wait for their turns, and why others do not."""
    found, absent = {}, {}
    for name, peer in SERVERS.items():
        if scheme not in peer.schemes:
            continue
        try:
            address = stack.enter_context(serving(peer, scheme, str(folder / peer.module)))
            found[name] = stack.enter_context(calling(peer, address, size))
        except MissingPeer as error:
            absent[name] = str(error)
        except ChildFailed as error:
            absent[name] = error.reason
    return found, absent
