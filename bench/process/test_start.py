"""From the command line to ready, beside a Python that only loads the model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.process.start import NAME, time_alone, time_to_ready


@pytest.mark.parametrize("subject", [time_to_ready, time_alone])
def test_start(benchmark: BenchmarkFixture, subject: Callable[[], float]) -> None:
    """Ours includes the time to stop again; the figure without it is in the extra information."""
    benchmark.group = NAME
    taken: list[float] = []
    benchmark.pedantic(lambda: taken.append(subject()), rounds=5)  # type: ignore[no-untyped-call]
    benchmark.extra_info["seconds"] = taken
