"""Requests for inline models that are answered on the spot: the same as on the long way, or left to it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from time import perf_counter
from typing import Any

import numpy as np
import pytest
from waiting import PATIENCE

from tensorwire import Request, Response, TensorSpec
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.model import Array, Model, RequestError, Signature
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.routing.rules import MirrorRule
from tensorwire.servers.service import Service

X = np.arange(6, dtype=np.float32).reshape(2, 3)
SPECS = (TensorSpec("x", np.float32, (-1, 3)),)


class Adding(Model):
    """x + 1, at once, as 'y' and 'z'; what ``makes`` says instead of 'y'. Counts its runs."""

    engine = "fake"
    inline = True

    def __init__(self, makes: Callable[[Array], Any] = lambda x: x + 1, *, name: str = "adding") -> None:
        self.name = name
        outputs = (TensorSpec("y", np.float32, (-1, 3)), TensorSpec("z"))
        self.signatures = {name: Signature(name, SPECS, outputs) for name in (self.default_signature, "other")}
        self.makes = makes
        self.runs: list[tuple[str, tuple[str, ...]]] = []

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Any]:
        self.runs.append((signature, tuple(outputs)))
        results = {"y": self.makes(inputs["x"]), "z": inputs["x"]}
        return {name: results[name] for name in outputs}


def raising(error: BaseException) -> Callable[[Array], Any]:
    def fail(x: Array) -> Any:
        raise error

    return fail


def answer(service: Service, request: Request) -> Response | RequestError | None:
    return service.direct.answer(request, perf_counter())


def submitted(service: Service, request: Request) -> Response | RequestError:
    found: list[Response | RequestError] = []
    service.submit(request, found.append)
    return found.pop()


def run(test: Callable[[Service], Coroutine[Any, Any, None]], *models: Model, **options: Any) -> None:
    async def main() -> None:
        service = Service(models, **options)
        try:
            await asyncio.wait_for(test(service), PATIENCE)
        finally:
            service.close()

    asyncio.run(main())


def same(a: Response | RequestError | None, b: Response | RequestError) -> bool:
    if isinstance(a, RequestError) and isinstance(b, RequestError):
        return (a.code, a.message) == (b.code, b.message)
    return a == b


@pytest.mark.parametrize(
    "fields",
    [{}, {"outputs": ["z"]}, {"outputs": ["z", "y"]}, {"model": "adding"}, {"id": "7"}, {"outputs": ["no such"]}],
)
@pytest.mark.parametrize("makes", ["array", "a list", "another dtype", "another shape", "none", "refusal", "failure"])
def test_it_is_the_answer_of_the_long_way(makes: str, fields: dict[str, Any], caplog: pytest.LogCaptureFixture) -> None:
    made: dict[str, Callable[[Array], Any]] = {
        "array": lambda x: x + 1,
        "a list": lambda x: (x + 1).tolist(),
        "another dtype": lambda x: (x + 1).astype(np.float64),
        "another shape": lambda x: np.zeros((2, 4), np.float32),
        "none": lambda x: None,
        "refusal": raising(RequestError(422, "too large")),
        "failure": raising(ValueError("broken")),
    }
    model = Adding(made[makes])

    async def test(service: Service) -> None:
        request = Request({"x": X}, **{"id": "one", **fields})
        at_once, later = answer(service, request), submitted(service, request)
        assert same(at_once, later), (at_once, later)
        assert len(model.runs) in (0, 2) and len(set(model.runs)) <= 1
        failed = isinstance(at_once, RequestError)
        assert (service.requests, service.failures) == (2, 2 * failed)
        (version,) = service.status()[0].versions
        assert (version.requests, version.failures) == (2, 2 * failed)

    run(test, model)
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) in (0, 2) and len(set(errors)) <= 1


@pytest.mark.parametrize(
    "request_",
    [
        Request({"x": X}, version=1),
        Request({"x": X}, label="stable"),
        Request({"x": X}, signature="other"),
        Request({"x": X}, deadline_ms=1000),
        Request({"x": X}, model="no such"),
        Request({"x": X.astype(np.float64)}),
        Request({"x": X[:, :2]}),
        Request({"w": X}),
        Request([X, X]),
        Request([X.tolist()]),
    ],
    ids=repr,
)
def test_what_needs_more_is_left_to_the_long_way(request_: Request) -> None:
    model = Adding()

    async def test(service: Service) -> None:
        assert answer(service, request_) is None
        assert (model.runs, service.requests, service.failures) == ([], 0, 0)

    run(test, model)


async def left(service: Service) -> None:
    assert answer(service, Request({"x": X})) is None
    assert service.requests == 0


def test_models_in_threads_and_limits_of_time_are_left_to_the_long_way() -> None:
    threaded = FunctionModel(lambda inputs: {"y": inputs["x"]}, inputs=SPECS, outputs=[TensorSpec("y")])
    run(left, threaded)
    run(left, Adding(), request_timeout=5.0)
    run(left)


def test_a_closed_service_answers_nothing_at_once() -> None:
    async def test(service: Service) -> None:
        service.close()
        await left(service)

    run(test, Adding())


def test_what_is_copied_to_another_version_is_left_to_the_long_way() -> None:
    async def test(service: Service) -> None:
        first, second = Adding(name="m"), Adding(name="m")
        service.publish("m", 1, first)
        assert isinstance(answer(service, Request({"x": X})), Response)
        service.publish("m", 2, second)
        assert answer(service, Request({"x": X})) is None
        assert len(first.runs) == 1 and not second.runs

    run(test, config=RepositoryConfig(models=(ModelConfig(name="m", path="/none", shadow=MirrorRule("1")),)))


def config(*names: str, default: str = "") -> RepositoryConfig:
    return RepositoryConfig(models=tuple(ModelConfig(name=name, path="/none") for name in names), default=default)


def test_which_model_answers_changes_with_what_is_served() -> None:
    async def test(service: Service) -> None:
        models = {key: Adding(name=key[0]) for key in ("a1", "a2", "b1")}

        def who(name: str) -> str:
            before = {key: len(model.runs) for key, model in models.items()}
            answer(service, Request({"x": X}, model=name))
            return "".join([key for key, model in models.items() if len(model.runs) > before[key]])

        assert (who(""), who("a"), who("b")) == ("", "", "")
        service.publish("a", 1, models["a1"])
        service.publish("b", 1, models["b1"])
        assert (who(""), who("a"), who("b"), who("c")) == ("a1", "a1", "b1", "")
        service.publish("a", 2, models["a2"])
        assert (who(""), who("a")) == ("a2", "a2")
        await service.retire("a", 2)
        assert (who(""), who("a")) == ("a1", "a1")
        await service.configure(config("a", "b", default="b"))
        assert (who(""), who("a"), who("b")) == ("b1", "a1", "b1")
        await service.rest("b", 1)
        assert (who(""), who("a"), who("b")) == ("", "a1", "")
        service.publish("a", 1, FunctionModel(lambda inputs: {}, inputs=SPECS, outputs=[TensorSpec("y")]))
        assert who("a") == ""
        runs = sum([len(model.runs) for model in models.values()])
        assert service.requests == service.direct.requests == runs == 11

    run(test, config=config("a", "b"))
