"""Pauses between retries: they double up to a bound, are shortened at random, and fit into the time of a call."""

from __future__ import annotations

import socket

import numpy as np
import pytest

import tensorwire as tw
from tensorwire import _calls, _limit, _retry
from tensorwire._limit import TimeLimit

DOUBLED = [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 5.0]


def unanswered() -> tw.ConnectionLost:
    error = tw.ConnectionLost("nobody there")
    error.unanswered = True
    return error


@pytest.mark.parametrize(("share", "chosen"), [(1.0, max), (0.5, min)])
def test_pauses_double_up_to_a_bound(monkeypatch: pytest.MonkeyPatch, share: float, chosen: object) -> None:
    monkeypatch.setattr(_retry, "uniform", lambda low, high: chosen(low, high))  # type: ignore[operator]
    pauses = [_retry.pause_before(attempt, unanswered(), TimeLimit(None)) for attempt in range(len(DOUBLED))]
    assert pauses == pytest.approx([share * pause for pause in DOUBLED])


class Clock:
    """A clock that only goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.pauses: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


def ask_nobody(monkeypatch: pytest.MonkeyPatch, total_timeout: float | None) -> list[float]:
    """The pauses of a call that finds nobody listening."""
    clock = Clock()
    monkeypatch.setattr(_limit, "monotonic", clock)
    monkeypatch.setattr(_calls, "sleep", clock.sleep)
    with socket.create_server(("127.0.0.1", 0)) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    with (
        tw.Client(url, retries=len(DOUBLED), total_timeout=total_timeout) as asking,
        pytest.raises(tw.ConnectionLost, match="Connection refused"),
    ):
        asking.infer({"x": np.ones(3)})
    return clock.pauses


def test_a_client_pauses_so(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = ask_nobody(monkeypatch, None)
    assert len(pauses) == len(DOUBLED)
    assert all(most / 2 <= pause <= most for pause, most in zip(pauses, DOUBLED, strict=True))


def test_no_pause_outlasts_the_call(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses = ask_nobody(monkeypatch, 2.0)
    assert 0 < len(pauses) < len(DOUBLED)
    assert sum(pauses) < 2.0
