"""Counts and times of a version's requests."""

from __future__ import annotations

from tensorwire._tally import Tally

KEPT = 1024  # requests whose times are kept


def test_percentiles_are_those_of_the_last_requests() -> None:
    tally = Tally()
    assert tally.percentiles(50, 99) == []
    tally.add(1.0, 1.5, False)
    assert tally.percentiles(50, 99) == [0.5, 0.5]
    for number in range(KEPT):
        tally.add(0.0, float(number), number % 10 == 0)
    assert tally.requests == KEPT + 1 and tally.failures == 103 and tally.last == KEPT - 1
    assert tally.percentiles(0, 50, 99, 100) == [0, KEPT // 2, int(KEPT * 0.99), KEPT - 1]
