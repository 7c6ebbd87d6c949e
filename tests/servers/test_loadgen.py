"""The parts of the load generator: buckets, tallies, plans and random inputs."""

from __future__ import annotations

import json

import ml_dtypes
import numpy as np
import pytest

import tensorwire as tw
from tensorwire.servers.loadgen.histogram import Histogram
from tensorwire.servers.loadgen.inputs import random_inputs, sizes
from tensorwire.servers.loadgen.plan import Plan
from tensorwire.servers.loadgen.tally import Tally

PLAN = Plan("http://h", connections=10, rate=100.0, duration=1.0, warmup=0.5, timeout=2.0)


def filled(*seconds: float) -> Histogram:
    histogram = Histogram()
    histogram.add(seconds)
    return histogram


@pytest.mark.parametrize("percent", [1, 25, 50, 90, 99, 99.9])
def test_percentiles_are_those_of_the_samples(percent: float) -> None:
    samples = np.random.default_rng(1).lognormal(-7, 2, 20_000)
    expected = np.sort(samples)[round(percent / 100 * len(samples)) - 1]
    assert filled(*samples).percentile(percent) == pytest.approx(expected, rel=0.0011)


def test_the_ends_are_exact() -> None:
    histogram = filled(0.001234567, 0.01, 7.654321)
    assert histogram.percentile(100) == 7.654321
    assert histogram.shortest == 0.001234567
    assert histogram.mean == pytest.approx(sum([0.001234567, 0.01, 7.654321]) / 3)
    assert filled(0.0042).percentile(50) == 0.0042


def test_an_empty_histogram_has_no_figures() -> None:
    histogram = Histogram()
    histogram.add([])
    assert len(histogram) == 0
    assert np.isnan([histogram.percentile(50), histogram.mean]).all()
    assert [len(part) for part in histogram.curve()] == [0, 0]
    assert len(histogram.corrected(1.0)) == 0


def test_durations_outside_the_buckets_are_counted() -> None:
    histogram = filled(0.0, 1e-9, 1e6)
    assert len(histogram) == 3
    assert histogram.percentile(100) == 1e6


def test_merging_is_counting_together() -> None:
    merged = filled(0.001, 0.002)
    merged.merge(filled(0.5))
    assert merged.to_json() == filled(0.001, 0.002, 0.5).to_json()


def test_histogram_survives_json() -> None:
    for histogram in (filled(0.001, 0.001, 3.0), Histogram()):
        again = Histogram.from_json(json.loads(json.dumps(histogram.to_json())))
        assert np.array_equal(again.counts, histogram.counts)
        assert again.to_json() == histogram.to_json()


def test_the_correction_puts_in_what_a_waiting_client_left_out() -> None:
    """99 answers after 1 ms, one after 100: the client left out 99 requests that would have waited 99, 98, ... ms."""
    corrected = filled(*[0.001] * 99, 0.1).corrected(0.001)
    assert len(corrected) == 199
    assert corrected.percentile(100) == 0.1
    assert corrected.percentile(50) == pytest.approx(0.001, rel=0.01)
    assert corrected.percentile(75) == pytest.approx(0.0505, rel=0.02)


def test_the_correction_leaves_steady_answers_alone() -> None:
    steady = filled(0.001, 0.0011, 0.0012, 0.0019)
    assert steady.corrected(0.001).to_json() == steady.to_json()
    assert steady.corrected(0.0).to_json() == steady.to_json()


def test_the_curve_rises_to_the_longest() -> None:
    shares, seconds = filled(0.003, 0.001, 0.002, 0.004).curve()
    assert shares.tolist() == [0.25, 0.5, 0.75, 1.0]
    assert seconds[-1] == 0.004
    assert (np.diff(seconds) > 0).all()


def test_tallies_of_several_processes_add_up() -> None:
    one = Tally(requests=2, nbytes_out=10, seconds=1.0, window=1.0, cpu=0.5, latencies=filled(0.1, 0.2))
    two = Tally(requests=1, unsent=3, seconds=1.5, window=1.0, cpu=0.25, latencies=filled(0.3))
    one.fail("timeout", "the first")
    two.fail("timeout", "the second", 4)
    two.fail("error 500", "no")
    one.merge(Tally.from_json(json.loads(json.dumps(two.to_json()))))
    assert (one.requests, one.unsent, one.nbytes_out, one.seconds, one.cpu) == (3, 3, 10, 1.5, 0.75)
    assert one.errors == 6
    assert one.failures["timeout"].count == 5
    assert one.failures["timeout"].first == "the first"
    assert len(one.latencies) == 3


def test_a_plan_is_split_without_a_rest() -> None:
    parts = PLAN.split(4)
    assert [part.connections for part in parts] == [3, 3, 2, 2]
    assert sum(part.rate for part in parts) == pytest.approx(100.0)
    assert len({part.phase for part in parts}) == 4
    assert PLAN.split(1) == [PLAN]
    assert Plan.from_json(json.loads(json.dumps(PLAN.to_json()))) == PLAN


@pytest.mark.parametrize(
    ("declared", "shape"),
    [((-1, 3), (5, 3)), ((-1, -1, 8), (5, 1, 8)), ((2, -1), (2, 1)), ((4,), (4,)), ((), (5,))],
)
def test_free_dimensions(declared: tuple[int, ...], shape: tuple[int, ...]) -> None:
    assert sizes(declared, 5) == shape


DTYPES = [np.float16, np.float32, np.float64, np.int8, np.uint8, np.int64, np.uint64, np.bool_, np.complex64]
DTYPES += [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, object]


@pytest.mark.parametrize("dtype", DTYPES)
def test_random_inputs_of_every_dtype(dtype: type) -> None:
    inputs = random_inputs([tw.TensorSpec("x", dtype, (-1, 4))], 3, {})
    assert inputs["x"].dtype == np.dtype(dtype)
    assert inputs["x"].shape == (3, 4)
    assert len({str(value) for value in inputs["x"].ravel()}) > 1
    sent = tw.decode(bytes(tw.encode(tw.Request(inputs))), tw.Request)
    assert sent.inputs["x"].tolist() == inputs["x"].tolist()


def test_random_inputs_are_the_same_each_time() -> None:
    specs = [tw.TensorSpec("a", np.float32, (-1,)), tw.TensorSpec("b", None, (2,))]
    one, two = (random_inputs(specs, 4, {}) for _ in range(2))
    assert list(one) == ["a", "b"]
    assert all(np.array_equal(one[name], two[name]) for name in one)


def test_shapes_can_be_given() -> None:
    specs = [tw.TensorSpec("a", np.int32, (-1,)), tw.TensorSpec("b", np.int32, (-1,))]
    found = random_inputs(specs, 1, {"": (7,), "b": (2, 2)})
    assert [x.shape for x in found.values()] == [(7,), (2, 2)]


def test_a_model_that_takes_anything_gets_4_kb() -> None:
    (x,) = random_inputs([], 2, {}).values()
    assert x.shape == (2, 1024)
    assert x.dtype == np.float32
    named = random_inputs([], 2, {"a": (3,), "b": (1, 2)})
    assert {name: y.shape for name, y in named.items()} == {"a": (3,), "b": (1, 2)}
