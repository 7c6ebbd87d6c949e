"""The service: choosing a model, running it, its failures as codes, counting, and stopping."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import time
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE

from tensorwire import Metadata, Request, Response, TensorSpec, __version__
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.model import Model, RequestError, Signature
from tensorwire.servers.routing.target import Target
from tensorwire.servers.service import Service

X = np.arange(6, dtype=np.float32).reshape(2, 3)
IN, OUT = TensorSpec("x", np.float32, (-1, 3)), TensorSpec("y", np.float32, (-1, 3))


def double(inputs: dict[str, Any]) -> Any:
    """Twice x."""
    return {"y": inputs["x"] * 2, "z": inputs["x"] * 0}


def declared(fn: Any = double, *, name: str = "double", inline: bool = False) -> FunctionModel:
    return FunctionModel(fn, name=name, inputs=[IN], outputs=[OUT, TensorSpec("z")], inline=inline)


def raising(error: BaseException) -> Callable[[Any], Any]:
    def fail(inputs: Any) -> Any:
        raise error

    return fail


def run(test: Callable[[Service], Coroutine[Any, Any, None]], *models: Model, **options: Any) -> Service:
    """Run a coroutine with a service of its own."""
    service = Service(models or (declared(),), **options)

    async def main() -> None:
        try:
            await asyncio.wait_for(test(service), PATIENCE)
        finally:
            service.close()

    asyncio.run(main())
    return service


async def refused(service: Service, request: Request, code: int) -> str:
    with pytest.raises(RequestError) as caught:
        await service.infer(request)
    assert caught.value.code == code
    return caught.value.message


@pytest.mark.parametrize("inline", [False, True])
def test_outputs_come_by_name_in_the_order_asked_for(inline: bool) -> None:
    async def test(service: Service) -> None:
        outputs = (await service.infer(Request({"x": X}))).outputs
        assert outputs.names == ("y", "z")
        np.testing.assert_array_equal(outputs["y"], X * 2)
        assert (await service.infer(Request([X], ["z", "y"]))).outputs.names == ("z", "y")
        assert (await service.infer(Request({"x": X}, ["z"]))).outputs.names == ("z",)

    service = run(test, declared(inline=inline))
    assert (service.requests, service.failures, service.in_flight) == (3, 0, 0)


def test_done_is_called_at_once_for_inline_models_and_on_the_loops_thread_for_others() -> None:
    async def test(service: Service) -> None:
        threads: list[str] = []
        done = asyncio.Event()

        def note(result: Response | RequestError) -> None:
            assert isinstance(result, Response)
            threads.append(threading.current_thread().name)
            done.set()

        service.submit(Request({"x": X}, model="echo"), note)
        assert len(threads) == 1
        done.clear()
        service.submit(Request({"x": X}, model="double"), note)
        assert len(threads) == 1
        assert service.in_flight == 1
        await done.wait()
        assert threads == [threading.current_thread().name] * 2

    run(test, declared(), EchoModel())


def test_echo_gives_back_the_requests_own_arrays() -> None:
    async def test(service: Service) -> None:
        outputs = (await service.infer(Request({"a": X, "b": X[0]}))).outputs
        assert outputs["a"] is X
        assert (await service.infer(Request([X]))).outputs.names == ("0",)
        assert "unknown output 'q'" in await refused(service, Request([X], ["p", "q"]), 400)

    run(test, EchoModel())


def test_a_request_chooses_its_model_version_and_signature() -> None:
    class Two(EchoModel):
        def __init__(self) -> None:
            super().__init__("two")
            self.version = "3"
            self.signatures = {
                "first": Signature("first", (), (), open=True),
                "second": Signature("second", (IN,), (IN,)),
            }
            self.default_signature = "first"

    async def test(service: Service) -> None:
        assert (await service.infer(Request({"x": X}))).outputs["x"] is X
        assert (await service.infer(Request({"x": X}, model="double"))).outputs.names == ("y", "z")
        assert (await service.infer(Request([X], model="two", version=3, signature="second"))).outputs.names == ("x",)
        for request, message in (
            (Request([X], model="nine"), "unknown model 'nine': this server has 'double', 'two'"),
            (Request([X], version=4), "model 'two' has no version 4: it has 3"),
            (Request([X], label="best"), "model 'two' has no version with the label 'best': it has no labels"),
            (
                Request([X], signature="third"),
                "model 'two' has no signature 'third': it has 'first', 'second'",
            ),
        ):
            assert await refused(service, request, 404) == message
        other = Request([X], ["q"], model="double")
        assert await refused(service, other, 400) == "unknown output 'q': the model has 'y', 'z'"
        wrong = Request([X, X], signature="second")
        assert await refused(service, wrong, 400) == "2 inputs came, the model takes 'x'"

    service = run(test, declared(), Two(), default="two")
    assert (service.model_names, service.default) == (("double", "two"), "two")
    assert (service.requests, service.failures) == (9, 6)


def test_a_service_without_models_is_not_ready() -> None:
    async def test(service: Service) -> None:
        assert not service.ready
        assert await refused(service, Request([X]), 404) == "unknown model '': this server has no models"

    async def main() -> None:
        await test(Service([]))

    asyncio.run(main())


def test_names_must_be_unique_and_the_default_present() -> None:
    with pytest.raises(ValueError, match="two models have the same name: echo, echo"):
        Service([EchoModel(), EchoModel()])
    with pytest.raises(ValueError, match="the default model 'x' is not among echo"):
        Service([EchoModel()], default="x")


def test_metadata() -> None:
    service = Service([declared(inline=True), EchoModel()])
    assert service.metadata() == Metadata(
        "double", "1", f"tensorwire/{__version__}", "Twice x.", [IN], [OUT, TensorSpec("z")]
    )
    assert service.metadata(Target("echo")).inputs == ()
    for target in (Target("other"), Target("echo", signature="other"), Target("echo", 7), Target("echo", label="x")):
        with pytest.raises(RequestError) as caught:
            service.metadata(target)
        assert caught.value.code == 404


@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError("bad\nvalue"), "ValueError: bad value"),
        (MemoryError(), "MemoryError"),
        (SystemExit(3), "SystemExit: 3"),
        (RuntimeError("x" * 10_000), "RuntimeError: " + "x" * 500 + "..."),
    ],
    ids=["ValueError", "MemoryError", "SystemExit", "long"],
)
def test_a_failing_model_is_a_500_with_an_id_that_the_log_has_too(
    error: BaseException, text: str, inline: bool, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(service: Service) -> None:
        message = await refused(service, Request({"x": X}, id="abc"), 500)
        assert message == f"model 'double' failed: {text} (request abc)"
        fresh = await refused(service, Request({"x": X}), 500)
        number = fresh.removeprefix(f"model 'double' failed: {text} (request ").removesuffix(")")
        assert len(number) == 8
        assert [record.name for record in caplog.records] == ["tensorwire.service"] * 2
        assert [record.exc_info[1] for record in caplog.records if record.exc_info] == [error, error]
        assert number in caplog.messages[1]

    assert run(test, declared(raising(error), inline=inline)).failures == 2


def test_a_thread_that_was_asked_to_end_answers_too() -> None:
    async def test(service: Service) -> None:
        for _ in range(2):
            assert "KeyboardInterrupt" in await refused(service, Request({"x": X}), 500)

    run(test, declared(raising(KeyboardInterrupt())))


@pytest.mark.parametrize("inline", [False, True])
def test_a_models_own_refusal_keeps_its_code(inline: bool, caplog: pytest.LogCaptureFixture) -> None:
    async def test(service: Service) -> None:
        assert await refused(service, Request({"x": X}), 400) == "no digits in it"

    run(test, declared(raising(RequestError(400, "no digits in it")), inline=inline))
    assert not caplog.records


def test_a_promised_output_that_is_missing_is_the_models_failure() -> None:
    async def test(service: Service) -> None:
        assert "output 'z' is declared" in await refused(service, Request({"x": X}), 500)
        assert (await service.infer(Request({"x": X}, ["y"]))).outputs.names == ("y",)

    run(test, declared(lambda inputs: {"y": X}))


def test_results_that_are_no_arrays_become_arrays() -> None:
    async def test(service: Service) -> None:
        outputs = (await service.infer(Request({"x": X}))).outputs
        assert outputs["y"].tolist() == [1, 2]
        assert outputs["z"].dtype == object

    run(test, FunctionModel(lambda inputs: {"y": [1, 2], "z": np.array(["a", "b"])}))


def test_a_deadline_counts_from_when_the_request_was_received() -> None:
    async def test(service: Service) -> None:
        results: list[Any] = []
        request = Request({"x": X}, model="echo", deadline_ms=1000)
        service.submit(request, results.append)
        service.submit(request, results.append, received=time.perf_counter() - 2)
        assert isinstance(results[0], Response)
        assert results[1].code == 504
        assert results[1].message.startswith("the deadline of 1000 ms passed after 20")

    run(test, EchoModel())


def test_a_deadline_that_passes_in_the_queue_spares_the_model() -> None:
    ran: list[int] = []

    def wait(inputs: Any) -> Any:
        ran.append(1)
        time.sleep(0.05)
        return inputs["0"]

    async def test(service: Service) -> None:
        first = asyncio.ensure_future(service.infer(Request([X])))
        await asyncio.sleep(0)
        assert "the deadline of 1 ms passed after" in await refused(service, Request([X], deadline_ms=1), 504)
        await first
        assert len(ran) == 1

    run(test, FunctionModel(wait))


def test_a_full_queue_is_a_503() -> None:
    gate = threading.Event()

    async def test(service: Service) -> None:
        waiting = [asyncio.ensure_future(service.infer(Request([X]))) for _ in range(3)]
        await asyncio.sleep(0)
        assert service.in_flight == 3
        assert await refused(service, Request([X]), 503) == "busy: 2 requests are waiting"
        gate.set()
        await asyncio.gather(*waiting)

    run(test, FunctionModel(lambda inputs: gate.wait(PATIENCE)), max_queue=2)


def test_a_request_that_is_cancelled_does_not_disturb_the_others() -> None:
    gate = threading.Event()

    async def test(service: Service) -> None:
        first = asyncio.ensure_future(service.infer(Request([X])))
        await asyncio.sleep(0)
        first.cancel()
        gate.set()
        await service.infer(Request([X]))
        assert first.cancelled()

    run(test, FunctionModel(lambda inputs: gate.wait(PATIENCE)))


def test_drain_waits_for_requests_and_then_refuses() -> None:
    gate = threading.Event()

    async def test(service: Service) -> None:
        waiting = asyncio.ensure_future(service.infer(Request([X])))
        await asyncio.sleep(0)
        assert service.ready
        draining = asyncio.ensure_future(service.drain(PATIENCE))
        await asyncio.sleep(0)
        assert not service.ready
        late = asyncio.ensure_future(service.infer(Request([X])))
        await asyncio.sleep(0)
        gate.set()
        assert await draining
        await asyncio.gather(waiting, late)
        assert await refused(service, Request([X]), 503) == "shutting down"

    run(test, FunctionModel(lambda inputs: gate.wait(PATIENCE)))


def test_drain_gives_up_after_its_time() -> None:
    gate = threading.Event()

    async def test(service: Service) -> None:
        waiting = asyncio.ensure_future(service.infer(Request([X])))
        await asyncio.sleep(0)
        assert not await service.drain(0.01)
        gate.set()
        await waiting
        assert await service.drain(0.01)

    run(test, FunctionModel(lambda inputs: gate.wait(PATIENCE)))


def test_close_closes_the_models_and_refuses() -> None:
    closed: list[str] = []

    class Closing(EchoModel):
        def close(self) -> None:
            closed.append(self.name)

    service = Service([Closing("a"), Closing("b")])
    service.close()
    assert closed == ["a", "b"]
    results: list[Any] = []
    service.submit(Request([X]), results.append)
    assert results[0].code == 503
    assert not service.ready


@pytest.fixture
def no_collector() -> Any:
    """References must go by themselves, not by the cycle collector."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("inline", [False, True])
@pytest.mark.parametrize("case", ["fine", "failing", "refusing", "misfit", "unknown output"])
def test_a_requests_arrays_are_free_once_it_is_answered(
    case: str, inline: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Handlers that keep records (pytest's own) keep the traceback, and with it the arrays.
    monkeypatch.setattr(logging.getLogger("tensorwire.service"), "disabled", True)

    # Fresh errors: one that is raised again and again keeps its tracebacks itself.
    def fail(inputs: Any) -> Any:
        raise ValueError

    def refuse(inputs: Any) -> Any:
        raise RequestError(400, "no")

    functions = {"failing": fail, "refusing": refuse}

    async def test(service: Service) -> None:
        alive: list[bool] = []
        results: list[Response | RequestError] = []

        def submit() -> weakref.ref[Any]:
            x = np.ones((2, 4) if case == "misfit" else (2, 3), np.float32)
            reference = weakref.ref(x)

            def done(result: Response | RequestError) -> None:
                results.append(result)
                alive.append(reference() is not None)

            service.submit(Request({"x": x}, ["q"] if case == "unknown output" else []), done)
            return reference

        for _ in range(20):
            reference = submit()
            await next(iter(service._servables)).workers.drain() if not inline else None  # type: ignore[union-attr]
            assert reference() is None
        if not inline and case in ("fine", "failing", "refusing"):
            assert not any(alive)
        assert {type(result) for result in results} == {Response if case == "fine" else RequestError}

    run(test, declared(functions.get(case, double), inline=inline))
