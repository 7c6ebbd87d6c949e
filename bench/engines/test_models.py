"""A model over the wire, in process, and an echo of as many bytes."""

from __future__ import annotations

from pathlib import Path

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.children import ChildFailed
from bench.engines.cuda import cuda_missing
from bench.engines.models import Case, cases, on_gpu
from bench.engines.suite import DIRECT, READY, calls
from bench.peers import OURS
from bench.turns import Turns


@pytest.mark.parametrize("subject", [OURS, DIRECT, READY])
@pytest.mark.parametrize("case", [*cases(), *on_gpu()], ids=lambda case: case.name)
def test_model(benchmark: BenchmarkFixture, case: Case, subject: str, tmp_path: Path) -> None:
    benchmark.group = case.name
    if case.device != "cpu" and (missing := cuda_missing()):
        pytest.skip(missing)
    try:
        with calls(case, tmp_path) as found:
            call = found[subject]
            benchmark((lambda: call.seconds(1)) if isinstance(call, Turns) else call)
    except ChildFailed as error:
        pytest.skip(str(error))
