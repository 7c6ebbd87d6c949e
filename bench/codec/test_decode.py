"""Bytes to arrays, beside the original package."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import ORIGINAL, load
from bench.workload import SHAPES, SMALL, STRINGS, tensors
from tensorwire import Chunk, Request, decode, encode

pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")

WORKLOADS = [*SHAPES, SMALL, STRINGS]


@pytest.fixture(params=WORKLOADS)
def message(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> bytes:
    data = bytes(encode(Request(tensors(request.param))))
    benchmark.group = f"decode {request.param}"
    benchmark.extra_info["nbytes"] = len(data)
    return data


def test_decode(benchmark: BenchmarkFixture, message: bytes) -> None:
    benchmark(decode, message, Request)


def test_decode_chunk(benchmark: BenchmarkFixture, message: bytes) -> None:
    """From memory of the library's own, as a server receives it."""
    chunk = Chunk(len(message))
    memoryview(chunk)[:] = message
    benchmark(decode, chunk, Request)


@pytest.mark.parametrize("workload", WORKLOADS)
def test_original(benchmark: BenchmarkFixture, workload: str) -> None:
    pytest.importorskip("graphpipe")
    benchmark.group = f"decode {workload}"
    peer = load(ORIGINAL)
    benchmark(peer.decode, peer.encode(tensors(workload)))
