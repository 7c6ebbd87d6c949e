"""Requests in flight while the version that they are on is replaced."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import FakeModel, is_model, settled, write_version

from tensorwire import Request
from tensorwire.servers.model import Array, Model
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.service import Service

ONE, SLOW = np.ones(1, np.float32), np.zeros(1, np.float32)
PATIENCE = 20.0


class Held(FakeModel):
    """Answers zeros only when it is let go."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.entered, self.go = threading.Event(), threading.Event()
        self.concurrency = 2

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        if not inputs["x"].any():
            self.entered.set()
            assert self.go.wait(PATIENCE)
        return super().run(signature, inputs, outputs)


class Loads:
    """Loads held models; ``open`` lets loads through, ``running`` is how many are under way."""

    def __init__(self) -> None:
        self.models: list[Held] = []
        self.open = threading.Event()
        self.open.set()
        self.running = 0
        self.most = 0
        self._guard = threading.Lock()

    def __call__(self, path: Path, config: ModelConfig) -> Model:
        with self._guard:
            self.running += 1
            self.most = max(self.most, self.running)
        assert self.open.wait(PATIENCE)
        with self._guard:
            self.running -= 1
        self.models.append(Held(path))
        return self.models[-1]

    async def hold(self, service: Service, **fields: Any) -> asyncio.Task[float]:
        """A request that is in the first model, which keeps it until it is let go."""
        slow = asyncio.ensure_future(ask(service, SLOW, **fields))
        await asyncio.to_thread(self.models[0].entered.wait, PATIENCE)
        return slow


def run(
    configs: Sequence[ModelConfig],
    test: Callable[[Service, Repository, Loads], Awaitable[None]],
    *,
    held: bool = False,
) -> None:
    """``held``: no load is let through at first."""

    async def main() -> None:
        loads = Loads()
        if held:
            loads.open.clear()
        service = Service(config=RepositoryConfig(models=tuple(configs)), load=loads, poll=0.02)
        assert service.repository is not None
        service.repository._is_model = service.repository._loader._is_model = is_model
        service.start()
        try:
            await asyncio.wait_for(test(service, service.repository, loads), PATIENCE)
        finally:
            loads.open.set()
            for model in loads.models:
                model.go.set()
            await service.stop()
        assert [model.closed for model in loads.models] == [1] * len(loads.models)

    asyncio.run(main())


def config(base: Path, **fields: Any) -> ModelConfig:
    return ModelConfig(name=base.name, path=str(base), settle=0, attempts=1, warm_up=False, **fields)


async def ask(service: Service, x: Array, **fields: Any) -> float:
    return float((await service.infer(Request({"x": x}, **fields))).outputs["y"][0])


@pytest.mark.parametrize("transition", ["availability", "resource"])
def test_a_request_finishes_on_the_version_it_started_on(tmp_path: Path, transition: str) -> None:
    base = tmp_path / "m"
    write_version(base, 1, "10")

    async def test(service: Service, repository: Repository, loads: Loads) -> None:
        await repository.settled()
        slow = await loads.hold(service)
        write_version(base, 2, "20")
        if transition == "availability":
            await settled(repository, lambda: len(loads.models) == 2 and repository.models["m"].available == (2,))
            assert await ask(service, ONE) == 21
            status = {version.number: version for version in service.status("m")[0].versions}
            assert (status[1].state, status[1].in_flight) == ("UNLOADING", 1)
            assert not loads.models[0].closed
        else:
            await settled(repository, lambda: repository.models["m"].available == ())
            assert len(loads.models) == 1, "the new one has no room beside the old one"
        loads.models[0].go.set()
        assert await slow == 10
        await settled(repository, lambda: repository.models["m"].available == (2,))
        assert await ask(service, ONE) == 21
        assert service.failures == 0

    run([config(base, transition=transition)], test)


def test_files_replaced_under_the_same_number_leave_requests_in_flight_alone(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_version(base, 1, "10")

    async def test(service: Service, repository: Repository, loads: Loads) -> None:
        await repository.settled()
        slow = await loads.hold(service, version=1)
        write_version(base, 1, "20")
        await settled(repository, lambda: len(loads.models) == 2)
        while await ask(service, ONE, version=1) != 21:
            await asyncio.sleep(0.01)
        loads.models[0].go.set()
        assert await slow == 10

    run([config(base)], test)


def test_models_are_loaded_several_at_a_time(tmp_path: Path) -> None:
    for name in "abcdef":
        write_version(tmp_path / name, 1)

    async def test(service: Service, repository: Repository, loads: Loads) -> None:
        await settled(repository, lambda: loads.running == 4)
        assert not service.ready
        assert [status.versions[0].state for status in service.status()] == ["LOADING"] * 6
        loads.open.set()
        await settled(repository, lambda: service.ready)
        assert loads.most == 4 and len(loads.models) == 6

    run([config(tmp_path / name) for name in "abcdef"], test, held=True)


def test_draining_finishes_what_an_old_version_has(tmp_path: Path) -> None:
    base = tmp_path / "m"
    write_version(base, 1, "10")

    async def test(service: Service, repository: Repository, loads: Loads) -> None:
        await repository.settled()
        slow = await loads.hold(service)
        write_version(base, 2, "20")
        await settled(repository, lambda: repository.models["m"].available == (2,))
        draining = asyncio.ensure_future(service.drain(PATIENCE))
        await asyncio.sleep(0)
        assert not service.ready and service.in_flight == 1
        loads.models[0].go.set()
        assert await draining
        assert await slow == 10

    run([config(base)], test)
