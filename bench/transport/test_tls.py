"""77 MB there and back by TLS, beside a raw TLS socket."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.certificate import self_signed
from bench.peers import OURS
from bench.transport.raw import BUFFERS
from bench.transport.tls import NO_OPENSSL, ROW, calls, floor_name


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Callable[[], Any]]]:
    folder = tmp_path_factory.mktemp("bench")
    made = self_signed(folder)
    if made is None:
        pytest.skip(NO_OPENSSL)
    with calls(folder, *made) as found:
        yield found


@pytest.mark.parametrize("subject", [OURS, *map(floor_name, BUFFERS)])
def test_tls(benchmark: BenchmarkFixture, cases: dict[str, Callable[[], Any]], subject: str) -> None:
    benchmark.group = ROW
    benchmark(cases[subject])
