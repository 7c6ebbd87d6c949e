"""Requests a second by wrk: one round is a load of a second; the rates are in the extra information."""

from __future__ import annotations

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.load.suite import CONTESTS, MOSEC, targets
from bench.load.wrk import ABSENT, Load, available, load
from bench.peers import OURS


@pytest.mark.parametrize("subject", [OURS, MOSEC])
@pytest.mark.parametrize("name", CONTESTS)
def test_rate(benchmark: BenchmarkFixture, name: str, subject: str) -> None:
    if not available():
        pytest.skip(ABSENT)
    benchmark.group = name
    loads: list[Load] = []
    with targets(CONTESTS[name]) as (found, absent):
        if subject in absent:
            pytest.skip(absent[subject])
        target = found[subject]
        benchmark.pedantic(lambda: loads.append(load(target.url, target.body, 1)), rounds=3)  # type: ignore[no-untyped-call]
    benchmark.extra_info["requests/s"] = [round(one.rate) for one in loads]
