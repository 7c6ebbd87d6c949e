"""Deadlines, in the message and in the head, and clients that leave: work that is of no use is not begun."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from rawhttp import Raw, chunked, head, post
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
        answer = raw.answer()
        assert answer.status == 504
        assert f"the deadline of {smaller} ms passed" in error(answer.body)
        gate.open()
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


def blocking(url: str) -> None:
    with tw.Client(url, total_timeout=0.2) as client:
        client.infer({"x": np.ones(3, np.float32)})


def asynchronous(url: str) -> None:
    async def main() -> None:
        async with tw.AsyncClient(url, total_timeout=0.2) as client:
            await client.infer({"x": np.ones(3, np.float32)})

    asyncio.run(main())


def cancelled(url: str) -> None:
    async def main() -> None:
        async with tw.AsyncClient(url) as client, asyncio.timeout(0.2):
            await client.infer({"x": np.ones(3, np.float32)})

    asyncio.run(main())


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix"])
@pytest.mark.parametrize("call", [blocking, asynchronous, cancelled])
def test_work_of_a_call_that_was_given_up_is_not_begun(
    gate: Counting, call: Callable[[str], None], place: str, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path / 's'}" if place == "unix" else place
    with BackgroundServer(gate.model, listen=listen) as server, Raw(server.url) as busy:
        service = server.app.service
        busy.send(post(message()))
        gate.wait_entered()
        with pytest.raises(TimeoutError):
            call(server.url)
        wait_until(lambda: server.app.open_connections == 1)
        gate.open()
        assert busy.answer().status == 200
        wait_until(lambda: service.in_flight == 0)
        assert (gate.entered, service.cancelled) == (1, 1)


def test_who_has_closed_a_unix_socket_is_gone(gate: Counting, tmp_path: Path) -> None:
    with BackgroundServer(gate.model, listen=f"unix:{tmp_path / 's'}") as server, Raw(server.url) as busy:
        service = server.app.service
        busy.send(post(message()))
        gate.wait_entered()
        with Raw(server.url) as leaving:
            leaving.send(post(message()))
            wait_until(lambda: service.in_flight == 2)
        wait_until(lambda: server.app.open_connections == 1)
        gate.open()
        assert busy.answer().status == 200
        wait_until(lambda: service.in_flight == 0)
        assert (gate.entered, service.cancelled) == (1, 1)


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix"])
@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize("send", [post, chunked])
def test_half_closed_client_is_answered(
    gate: Counting, send: Callable[[bytes], bytes], handed_over: bool, place: str, tmp_path: Path
) -> None:
    listen = f"unix:{tmp_path / 's'}" if place == "unix" else place
    with BackgroundServer(gate.model, listen=listen) as server, Raw(server.url) as busy, Raw(server.url) as half:
        busy.send(post(message()))
        gate.wait_entered()
        if handed_over:
            half.get("/healthz")
        half.send(send(message()))
        half.sock.shutdown(1)
        wait_until(lambda: server.app.service.in_flight == 2)
        gate.open()
        assert half.answer().status == 200
        assert half.at_end()
        assert busy.answer().status == 200
        assert server.app.service.cancelled == 0


@pytest.mark.parametrize("rest", [b"", b"GET /hea", chunked(message())[:-1], post(message())[:-1]])
def test_half_closed_client_gets_all_answers_to_whole_requests(gate: Counting, rest: bytes) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as half:
        half.send(chunked(message()) + head("GET", "/healthz") + post(message()) + rest)
        half.sock.shutdown(1)
        gate.wait_entered()
        gate.open()
        answers = [half.answer() for _ in range(3)]
        assert [answer.status for answer in answers] == [200, 200, 200]
        assert answers[1].body == b"ok\n"
        assert half.at_end()
        wait_until(lambda: server.app.open_connections == 0)
        assert server.app.budget.used == 0


@pytest.mark.parametrize("handed_over", [False, True])
@pytest.mark.parametrize("part", [b"", b"GET /hea", chunked(message())[:-1], post(message())[:-1]])
def test_half_closed_client_without_a_whole_request_is_let_go(part: bytes, handed_over: bool) -> None:
    with BackgroundServer(EchoModel()) as server, Raw(server.url) as half:
        if handed_over:
            half.get("/healthz")
        half.send(part)
        half.sock.shutdown(1)
        assert half.at_end()
        wait_until(lambda: server.app.open_connections == 0 and server.app.budget.used == 0)


def overdue(server: BackgroundServer) -> int:
    return server.app.service.overdue


def test_deadline_that_passes_while_the_model_runs_is_answered_then(gate: Counting) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        service = server.app.service
        raw.send(post(message(30)))
        answer = raw.answer()
        assert answer.status == 504
        assert "the deadline of 30 ms passed after" in error(answer.body)
        assert error(answer.body).endswith(", while the model ran")
        assert (gate.entered, service.expired, service.in_flight, overdue(server)) == (1, 1, 0, 1)
        gate.open()
        wait_until(lambda: overdue(server) == 0)
        wait_until(lambda: server.app.budget.used == 0)
        assert raw.post(message(60_000)).status == 200
        assert (service.requests, service.failures, gate.entered) == (2, 1, 2)


def test_a_request_behind_one_that_is_overdue_is_told_why(gate: Counting) -> None:
    with BackgroundServer(gate.model, max_queue=1) as server, Raw(server.url) as raw, Raw(server.url) as waiting:
        assert raw.post(message(20)).status == 504
        waiting.send(post(message()))
        wait_until(lambda: server.app.service.in_flight == 1)
        other = raw.post(message(20))
        assert (other.status, gate.entered) == (504, 1)
        assert error(other.body).endswith("before the model ran; the model's only thread is held past a deadline")
        gate.open()
        assert waiting.answer().status == 200
        assert gate.entered == 2


def test_a_model_whose_threads_are_all_stuck_says_so(gate: Counting, caplog: pytest.LogCaptureFixture) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw, Raw(server.url) as waiting:
        assert raw.post(message(20)).status == 504
        waiting.send(post(message()))
        assert waiting.answer().status == 503  # after a second: nobody waits for a thread that may never be free
        answer = raw.post(message())
        assert answer.status == 503
        assert error(answer.body) == "busy: the model's only thread is held past a deadline"
        assert (gate.entered, server.app.service.in_flight, overdue(server)) == (1, 0, 1)
        gate.open()
        wait_until(lambda: overdue(server) == 0)
        assert raw.post(message()).status == 200
        wait_until(lambda: server.app.budget.used == 0)
    assert [record.message for record in caplog.records] == [
        "model: busy: the model's only thread is held past a deadline; 1 waiting requests are refused",
        "model: a thread is free again, requests are taken",
    ]


@pytest.mark.parametrize("handed_over", [False, True])
def test_the_servers_time_limit_is_for_requests_without_a_deadline(gate: Counting, handed_over: bool) -> None:
    with BackgroundServer(gate.model, request_timeout=0.05) as server, Raw(server.url) as raw:
        if handed_over:
            raw.get("/healthz")
        answer = raw.post(message(60_000) if handed_over else message())
        assert answer.status == 504
        assert "the server's time limit of 50 ms passed after" in error(answer.body)
        shorter = raw.post(message(1))
        assert "the deadline of 1 ms passed after" in error(shorter.body)


def test_memory_of_requests_that_expire_in_the_queue_comes_back_at_once(gate: Counting) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as busy, Raw(server.url) as raw:
        busy.send(post(message()))
        gate.wait_entered()
        held = server.app.budget.used
        assert held > 0
        for _ in range(300):
            assert raw.post(message(1)).status == 504
        wait_until(lambda: server.app.budget.used == held)
        gate.open()
        assert busy.answer().status == 200
        assert gate.entered == 1


def test_stopping_does_not_wait_for_a_thread_whose_request_is_answered(gate: Counting) -> None:
    with BackgroundServer(gate.model) as server, Raw(server.url) as raw:
        assert raw.post(message(20)).status == 504
        assert overdue(server) == 1
    assert not server.app.service.ready
