"""A request and its answer, over TCP and UNIX sockets, to a server in a process of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.children import running
from bench.transport.raw import BUFFERS, raw_client
from bench.transport.replay import wire_sizes
from bench.transport.suite import TRIPS
from bench.workload import SHAPES, Array, floats
from tensorwire import Client

SCHEMES = ["tcp", "unix"]


@pytest.fixture(scope="module", params=TRIPS)
def trip(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture(scope="module")
def x(trip: str) -> Array:
    return floats(SHAPES[TRIPS[trip][1]])


@pytest.fixture(scope="module")
def urls(trip: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    path = tmp_path_factory.mktemp("bench") / "socket"
    with running("bench.server", TRIPS[trip][0], "--listen", "127.0.0.1:0", "--listen", f"unix:{path}") as found:
        yield dict(zip(SCHEMES, found, strict=True))


@pytest.mark.parametrize("scheme", SCHEMES)
def test_roundtrip(benchmark: BenchmarkFixture, trip: str, urls: dict[str, str], x: Array, scheme: str) -> None:
    benchmark.group = f"{trip}, {scheme}"
    with Client(urls[scheme]) as client:
        benchmark(client.infer, {"x": x})


@pytest.mark.parametrize("subject", BUFFERS)
@pytest.mark.parametrize("scheme", SCHEMES)
def test_raw_sockets(
    benchmark: BenchmarkFixture,
    trip: str,
    urls: dict[str, str],
    x: Array,
    scheme: str,
    subject: str,
    tmp_path: Path,
) -> None:
    """The floor: as many bytes both ways, heads included."""
    benchmark.group = f"{trip}, {scheme}"
    sizes = wire_sizes(urls[scheme], x)
    with raw_client(scheme, BUFFERS[subject], *sizes, str(tmp_path / "raw")) as call:
        benchmark(call)
