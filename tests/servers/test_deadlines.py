"""Deadlines, in the message and in the head, and clients that leave: work that is of no use is not begun."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest
from rawhttp import Raw, chunked, post
from waiting import Gate, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel


class Counting(Gate):
    """A gate that counts how often it was entered."""

    entered = 0

    def model(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        self.entered += 1
        return super().model(inputs)


@pytest.fixture
def gate() -> Iterator[Counting]:
    with Counting() as gate:
        yield gate


def message(deadline_ms: int = 0) -> bytes:
    return bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)}, deadline_ms=deadline_ms)))


def error(body: bytes) -> str:
    return tw.decode(body, tw.Response).errors[0].message


@pytest.mark.parametrize(("field", "header", "smaller"), [(0, 1, 1), (60_000, 1, 1), (1, 60_000, 1), (1, None, 1)])
@pytest.mark.parametrize("handed_over", [False, True])
def test_the_smaller_deadline_wins(
    gate: Counting, field: int, header: int | None, smaller: int, handed_over: bool
) -> None:
    fields = [f"X-Deadline-Ms: {header}"] if header is not None else []
    with BackgroundServer(gate.model) as server, Raw(server.url) as busy, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        for _ in range(server.app.service.models[0].concurrency):
            busy.send(post(message()))
        gate.wait_entered()
        raw.send(post(message(field), "/", *fields))
        wait_until(lambda: server.app.service.in_flight >= 2)
        time.sleep(0.003)
        gate.open()
        answer = raw.answer()
        assert answer.status == 504
        assert f"the deadline of {smaller} ms passed" in error(answer.body)
        assert busy.answer().status == 200
        assert (server.app.service.expired, server.app.service.failures) == (1, 1)
        assert gate.entered == 1


@pytest.mark.parametrize("value", ["0", "-1", "soon", "1.5", "", "9" * 30])
@pytest.mark.parametrize("handed_over", [False, True])
def test_deadline_that_is_none(value: str, handed_over: bool) -> None:
    with BackgroundServer(EchoModel()) as server, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        answer = raw.post(message(), "/", f"X-Deadline-Ms: {value}")
        assert answer.status == 400
        assert "is not a number of milliseconds above 0" in error(answer.body)
        assert raw.post(message(), "/", "x-deadline-ms: 60000").status == 200


@pytest.mark.parametrize("send", [post, chunked])
def test_work_of_a_client_that_left_is_not_begun(
    gate: Counting, send: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tensorwire.access")
    with BackgroundServer(gate.model) as server, Raw(server.url) as busy, Raw(server.url) as leaving:
        service = server.app.service
        busy.send(post(message()))
        gate.wait_entered()
        leaving.send(send(message()))
        wait_until(lambda: service.in_flight == 2)
        leaving.reset()
        wait_until(lambda: server.app.open_connections == 1)
        gate.open()
        assert busy.answer().status == 200
        wait_until(lambda: service.in_flight == 0)
        assert (gate.entered, service.cancelled, service.failures) == (1, 1, 1)
        wait_until(lambda: server.app.budget.used == 0)
        wait_until(lambda: len(caplog.records) == 2)
    assert sum(" 499 " in record.getMessage() for record in caplog.records) == 1


def test_half_closed_client_is_answered(gate: Counting) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as busy, Raw(server.url) as half:
        busy.send(post(message()))
        gate.wait_entered()
        half.send(post(message()))
        half.sock.shutdown(1)
        wait_until(lambda: server.app.service.in_flight == 2)
        gate.open()
        assert half.answer().status == 200
        assert half.at_end()
        assert busy.answer().status == 200
        assert server.app.service.cancelled == 0
