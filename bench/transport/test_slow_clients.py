"""4 kB there and back, quietly and beside 1,000 slow clients."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.children import running
from bench.transport.slow_clients import slow_clients
from bench.workload import SHAPES, floats
from tensorwire import Client


@pytest.mark.parametrize("beside", [False, True], ids=["quiet", "slow clients"])
def test_latency(benchmark: BenchmarkFixture, beside: bool) -> None:
    benchmark.group = "4 kB echo beside slow clients"
    x = floats(SHAPES["4 kB"])
    with (
        running("bench.server", "echo", "--listen", "127.0.0.1:0") as urls,
        Client(urls[0]) as client,
        slow_clients(urls[0]) if beside else nullcontext(),
    ):
        benchmark(client.infer, {"x": x})
