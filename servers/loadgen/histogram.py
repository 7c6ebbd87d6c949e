"""Latencies in buckets whose widths grow with their values: constant memory, and 0.1 % exact over ten decades.

The idea, and the correction for coordinated omission, are those of HdrHistogram (http://hdrhistogram.org).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import ceil, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Histogram"]

_LOWEST: Final = 1e-6  # seconds; what is shorter is counted as this
_HIGHEST: Final = 1e4
_RATIO: Final = 1.002  # of a bucket's upper bound to its lower one
_BUCKETS: Final = ceil(log(_HIGHEST / _LOWEST) / log(_RATIO)) + 1
_MIDDLES: Final = _LOWEST * _RATIO ** (np.arange(_BUCKETS) + 0.5)
_MOST_FILLED: Final = 1_000_000  # values put in for one bucket by the correction


class Histogram:
    """Counts of durations in seconds. ``counts`` is int64, one a bucket; ``longest`` and ``shortest`` are exact."""

    __slots__ = ("counts", "longest", "shortest", "total")

    def __init__(self) -> None:
        self.counts: NDArray[np.int64] = np.zeros(_BUCKETS, np.int64)
        self.shortest = float("inf")
        self.longest = 0.0
        self.total = 0.0  # seconds, of all values

    def __len__(self) -> int:
        return int(self.counts.sum())

    def add(self, values: Sequence[float] | NDArray[np.floating[Any]]) -> None:
        """Count durations (seconds)."""
        seconds = np.asarray(values, np.float64)
        if not seconds.size:
            return
        self.counts += np.bincount(_buckets(seconds), minlength=_BUCKETS)
        self.shortest = min(self.shortest, float(seconds.min()))
        self.longest = max(self.longest, float(seconds.max()))
        self.total += float(seconds.sum())

    def merge(self, other: Histogram) -> None:
        """Add another's counts."""
        self.counts += other.counts
        self.shortest = min(self.shortest, other.shortest)
        self.longest = max(self.longest, other.longest)
        self.total += other.total

    @property
    def mean(self) -> float:
        """Seconds; nan when nothing was counted."""
        count = len(self)
        return self.total / count if count else float("nan")

    def percentile(self, percent: float) -> float:
        """The duration (seconds) that ``percent`` of all are not over; nan when nothing was counted."""
        count = len(self)
        if not count:
            return float("nan")
        rank = max(1, ceil(percent / 100 * count - 1e-9))
        if rank >= count:
            return self.longest
        return self._value(int(np.searchsorted(np.cumsum(self.counts), rank)))

    def curve(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """For a plot: the shares (0 to 1) of values that are not over each of the durations (seconds)."""
        filled = np.flatnonzero(self.counts)
        shares = np.cumsum(self.counts[filled]) / max(1, len(self))
        values = np.array([self._value(int(bucket)) for bucket in filled])
        if filled.size:
            values[-1] = self.longest
        return shares, values

    def corrected(self, interval: float) -> Histogram:
        """A new histogram with the requests that a client that waits for its answers has left out.

        A connection that was to send one request each ``interval`` seconds, and waited longer for an answer, has
        sent none meanwhile; each of those would have waited ``interval`` less than the one before it.
        """
        found = Histogram()
        found.merge(self)
        if not interval > 0 or not len(self):
            return found
        for bucket in np.flatnonzero(self.counts[_bucket(2 * interval) :]) + _bucket(2 * interval):
            value, count = self._value(int(bucket)), int(self.counts[bucket])
            missing = min(int(value / interval) - 1, _MOST_FILLED)
            if missing > 0:
                filled = value - interval * np.arange(1, missing + 1)
                found.counts += count * np.bincount(_buckets(filled), minlength=_BUCKETS)
                found.total += count * float(filled.sum())
                found.shortest = min(found.shortest, float(filled[-1]))
        return found

    def to_json(self) -> dict[str, Any]:
        """Plain values, empty buckets left out."""
        filled = np.flatnonzero(self.counts)
        return {
            "buckets": filled.tolist(),
            "counts": self.counts[filled].tolist(),
            "shortest": self.shortest if filled.size else None,
            "longest": self.longest,
            "total": self.total,
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Any]) -> Histogram:
        """The reverse of ``to_json``."""
        made = cls()
        made.counts[np.asarray(found["buckets"], np.int64)] = found["counts"]
        made.shortest = float("inf") if found["shortest"] is None else found["shortest"]
        made.longest, made.total = found["longest"], found["total"]
        return made

    def _value(self, bucket: int) -> float:
        return min(max(float(_MIDDLES[bucket]), self.shortest), self.longest)


def _buckets(seconds: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    places = np.log(np.clip(seconds, _LOWEST, _HIGHEST) / _LOWEST) / log(_RATIO)
    found: NDArray[np.int64] = np.minimum(places.astype(np.int64), _BUCKETS - 1)
    return found


def _bucket(seconds: float) -> int:
    return int(_buckets(np.array([seconds]))[0])
