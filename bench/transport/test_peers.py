"""77 MB there and back by the servers that a user could pick instead."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers.servers import SERVERS, calling, serving
from bench.peers.servers.environments import MissingPeer


@pytest.mark.parametrize(
    ("name", "scheme"), [(name, scheme) for name, peer in SERVERS.items() for scheme in peer.schemes]
)
def test_echo(benchmark: BenchmarkFixture, name: str, scheme: str, tmp_path: Path) -> None:
    benchmark.group = f"77 MB echo, {scheme}"
    peer = SERVERS[name]
    try:
        with serving(peer, scheme, str(tmp_path / "socket")) as address, calling(peer, address, "77 MB") as turns:
            benchmark(turns.seconds, 1)
    except MissingPeer as error:
        pytest.skip(str(error))
