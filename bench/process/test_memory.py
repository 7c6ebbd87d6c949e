"""One request of 77 MB to a fresh server: the time of it all; the memory is in the extra information."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.process.memory import PAYLOADS, Peak, measure_peak


@pytest.mark.parametrize("model", PAYLOADS)
def test_peak(benchmark: BenchmarkFixture, model: str) -> None:
    benchmark.group = "server's memory, one 77 MB request"
    found: list[Peak] = []
    benchmark.pedantic(lambda: found.append(measure_peak(model)), rounds=1)  # type: ignore[no-untyped-call]
    benchmark.extra_info["bytes"] = vars(found[0])
