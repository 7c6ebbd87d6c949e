"""infer_many: N requests in flight, results in order, errors in their place."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import numpy as np
import pytest
from scripted import Server

import tensorwire as tw

Wire = Callable[..., Server]
Connect = Callable[..., Any]


class Model:
    """Doubles its input, and counts how many run at once; fails on a negative one."""

    def __init__(self, together: int = 1) -> None:
        self.barrier = threading.Barrier(together)
        self.lock = threading.Lock()
        self.running = self.most = 0

    def __call__(self, request: Any) -> tw.Response:
        with self.lock:
            self.running += 1
            self.most = max(self.most, self.running)
        self.barrier.wait(60)
        with self.lock:
            self.running -= 1
        x = request.inputs["x"]
        if x < 0:
            return tw.Response(errors=[tw.Status(7, f"{x} is negative")])
        return tw.Response({"y": x * 2})


def test_results_come_in_order_and_requests_at_once(connect: Connect, wire: Wire) -> None:
    model = Model(together=4)
    server = wire(model)
    with connect(server.url) as client:
        got = [float(r["y"]) for r in client.infer_many(({"x": float(i)} for i in range(12)), ["y"], concurrency=4)]
    assert got == [2.0 * i for i in range(12)]
    assert model.most == 4
    assert server.accepted == 4
    assert tw.decode(server.requests[0][1], tw.Request).outputs == ("y",)


def test_inputs_are_taken_as_they_are_needed(connect: Connect, wire: Wire) -> None:
    taken: list[int] = []

    def inputs() -> Any:
        for i in range(100):
            taken.append(i)
            yield {"x": float(i)}

    with connect(wire(Model()).url) as client:
        results = client.infer_many(inputs(), concurrency=2)
        assert next(results)["y"] == 0
        assert next(results)["y"] == 2
        results.close()
        assert len(taken) <= 4
        assert client.infer({"x": 4.0})["y"] == 8


def test_an_error_is_raised_in_its_place(connect: Connect, wire: Wire) -> None:
    with connect(wire(Model()).url) as client:
        results = client.infer_many([{"x": 1.0}, {"x": 2.0}, {"x": -1.0}, {"x": 3.0}], concurrency=4)
        assert [float(next(results)["y"]) for _ in range(2)] == [2.0, 4.0]
        with pytest.raises(tw.RemoteError, match="negative"):
            next(results)
        assert list(results) == []
        assert client.infer({"x": 4.0})["y"] == 8


def test_an_error_of_the_inputs_is_raised(connect: Connect, wire: Wire) -> None:
    def inputs() -> Any:
        yield {"x": 1.0}
        raise LookupError("no more")

    with connect(wire(Model()).url) as client, pytest.raises(LookupError, match="no more"):
        list(client.infer_many(inputs()))


def test_no_inputs(connect: Connect, wire: Wire) -> None:
    with connect(wire(Model()).url) as client:
        assert list(client.infer_many([])) == []
        with pytest.raises(ValueError, match="concurrency must be 1 or more: 0"):
            client.infer_many([], concurrency=0)


def test_progress(connect: Connect, wire: Wire, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    with connect(wire(Model()).url) as client:
        got = list(client.infer_many([{"x": 1.0}] * 3, progress=True))
    assert len(got) == 3
    out, err = capfd.readouterr()
    assert out == ""
    assert "3/3" in err


def test_progress_without_rich(connect: Connect, wire: Wire, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "rich.console", None)
    with connect(wire(Model()).url) as client, pytest.raises(ImportError, match=r"pip install 'tensorwire\[serve\]'"):
        list(client.infer_many([{"x": 1.0}], progress=True))


def test_asynchronous_inputs(wire: Wire) -> None:
    async def inputs() -> AsyncIterator[Any]:
        for i in range(5):
            await asyncio.sleep(0)
            yield {"x": float(i)}

    async def main() -> list[float]:
        async with tw.AsyncClient(wire(Model()).url) as client:
            return [float(r["y"]) async for r in client.infer_many(inputs(), concurrency=3)]

    assert asyncio.run(main()) == [0, 2, 4, 6, 8]


def test_outputs_of_many_may_be_stacked(connect: Connect, wire: Wire) -> None:
    with connect(wire(Model()).url) as client:
        results = client.infer_many([{"x": np.float32(i)} for i in range(3)])
        np.testing.assert_array_equal(np.stack([r["y"] for r in results]), [0, 2, 4])
