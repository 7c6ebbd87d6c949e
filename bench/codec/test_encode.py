"""Arrays to bytes, beside one copy of the payload and the original package."""

from __future__ import annotations

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from bench.peers import ORIGINAL, load
from bench.workload import SHAPES, SMALL, STRINGS, Array, floats, tensors
from tensorwire import Chunk, Request, encode

pytestmark = pytest.mark.filterwarnings("ignore:numElems is deprecated:DeprecationWarning")


@pytest.fixture(params=SHAPES)
def x(request: pytest.FixtureRequest, benchmark: BenchmarkFixture) -> Array:
    array = floats(SHAPES[request.param])
    benchmark.group = f"encode {request.param}"
    benchmark.extra_info["nbytes"] = array.nbytes
    return array


def test_encode(benchmark: BenchmarkFixture, x: Array) -> None:
    """To buffers: header bytes and a view of the array."""
    benchmark(encode, Request({"x": x}, outputs=["y"]))


def test_encode_to_bytes(benchmark: BenchmarkFixture, x: Array) -> None:
    message = Request({"x": x}, outputs=["y"])
    benchmark(lambda: bytes(encode(message)))


def test_write_into(benchmark: BenchmarkFixture, x: Array) -> None:
    """Into one block that is there already."""
    message = Request({"x": x}, outputs=["y"])
    chunk = Chunk(encode(message).nbytes)
    benchmark(lambda: encode(message).write_into(chunk))


def test_memcpy(benchmark: BenchmarkFixture, x: Array) -> None:
    """The floor of test_write_into."""
    benchmark(np.copyto, np.zeros_like(x), x)


def test_original(benchmark: BenchmarkFixture, x: Array) -> None:
    pytest.importorskip("graphpipe")
    benchmark(load(ORIGINAL).encode, {"x": x})


@pytest.mark.parametrize("workload", [SMALL, STRINGS])
def test_many(benchmark: BenchmarkFixture, workload: str) -> None:
    benchmark.group = f"encode {workload}"
    benchmark(encode, Request(tensors(workload)))


@pytest.mark.parametrize("workload", [SMALL, STRINGS])
def test_many_original(benchmark: BenchmarkFixture, workload: str) -> None:
    pytest.importorskip("graphpipe")
    benchmark.group = f"encode {workload}"
    benchmark(load(ORIGINAL).encode, tensors(workload))
