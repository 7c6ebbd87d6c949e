"""Whether two answers are the same."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tensorwire.servers.routing.compare import difference

NAN = float("nan")
INF = float("inf")


def told(served: Any, other: Any, tolerance: float = 1e-5) -> str:
    return difference({"y": np.asarray(served)}, {"y": np.asarray(other)}, tolerance)


@pytest.mark.parametrize(
    ("served", "other"),
    [
        ([1.0, NAN, INF, -INF], [1.0, NAN, INF, -INF]),
        ([1.0, 1000.0], [1.000005, 1000.005]),
        (np.float16([1, 2]), np.float16([1, 2])),
        (np.array([1, 2], ml_dtypes.bfloat16), np.array([1, 2], ml_dtypes.bfloat16)),
        ([1 + 2j], [1 + 2.000005j]),
        (np.array([b"a", b"b"], object), np.array([b"a", b"b"], object)),
        ([True, False], [True, False]),
        (np.zeros((0, 3)), np.zeros((0, 3))),
        (np.float32(3), np.float32(3)),
        (np.arange(6).reshape(2, 3).T, np.arange(6).reshape(2, 3).T.copy()),
    ],
)
def test_the_same(served: Any, other: Any) -> None:
    assert told(served, other) == ""


@pytest.mark.parametrize(
    ("served", "other", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.5], "output 'y': 1 of 2 values differ, by up to 0.5"),
        ([NAN, 1.0], [1.0, 1.0], "1 of 2 values differ, by up to inf"),
        ([INF], [-INF], "1 of 1 values differ, by up to inf"),
        ([INF], [1.0], "1 of 1 values differ, by up to inf"),
        ([1000.0], [1000.02], "1 of 1 values differ, by up to 0.02"),
        (np.int64([1, 2]), np.int64([1, 3]), "1 of 2 values differ, by up to 1"),
        (np.uint8([0]), np.uint8([255]), "1 of 1 values differ, by up to 255"),
        ([True, False], [True, True], "1 of 2 values differ"),
        (np.array([b"a"], object), np.array([b"b"], object), "1 of 1 values differ"),
        ([1.0], [[1.0]], "shape [1] and [1, 1]"),
        (np.float32([1]), np.float64([1]), "float32 and float64"),
    ],
)
def test_not_the_same(served: Any, other: Any, expected: str) -> None:
    assert expected in told(served, other)


def test_outputs_of_other_names() -> None:
    assert difference({"y": np.zeros(1)}, {"z": np.zeros(1)}, 0) == "outputs y and z"


def test_large_tensors_are_compared_in_pieces() -> None:
    served = np.zeros((1 << 21) + 5, np.float32)
    other = served.copy()
    other[-1], other[0] = 3, 2
    assert told(served, other) == "output 'y': 2 of 2,097,157 values differ, by up to 3"
