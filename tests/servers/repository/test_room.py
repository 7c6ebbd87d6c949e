"""Models under a limit of memory: refused, or making room for each other."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from fake_models import Gate, Published, settled, write_version
from fake_repository import model, run

from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.gauge import Gauge
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.repository.room import Room
from tensorwire.servers.repository.version import State

LIMIT = 1000


def of(base: Path, name: str, nbytes: int, **fields: object) -> ModelConfig:
    """A model that takes so many bytes."""
    write_version(base / name, 1, f"1@{nbytes}")
    return model(base / name, name=name, **fields)


def serving(published: Published) -> list[str]:
    return sorted(name for name, _ in published.serving)


def test_what_does_not_fit_is_refused_until_there_is_room(tmp_path: Path) -> None:
    a, b = of(tmp_path, "a", 600), of(tmp_path, "b", 500)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert serving(published) == ["a"] and repository.room.used == 600 and not repository.ready
        version = repository.models["b"].versions[1]
        assert version.state is State.END
        free = "400 bytes of 1.0 kB for models (--model-memory) are free"
        assert version.error == f"no room: it takes about 500 bytes, and {free}"
        attempts = gate.attempts
        await asyncio.sleep(0.1)
        assert gate.attempts == attempts, "it is not tried again while nothing has changed"
        await repository.apply(RepositoryConfig(models=(b,)))
        await settled(repository, lambda: serving(published) == ["b"])

    run(test, a, b, memory=LIMIT)


def test_at_the_start_models_are_loaded_in_order_while_there_is_room(tmp_path: Path) -> None:
    models = [of(tmp_path, name, 400) for name in ("a", "b", "c")]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert serving(published) == ["a", "b"]
        version = repository.models["c"].versions[1]
        assert version.asleep and "no room" in version.error
        assert repository.ready, "who asks for it gets it"
        # c was measured when it did not fit, and is not loaded again for every look.
        attempts = gate.attempts
        await asyncio.sleep(0.1)
        assert gate.attempts == attempts

    run(test, *models, memory=LIMIT, on_demand=True)


def test_who_was_not_used_for_longest_makes_room(tmp_path: Path) -> None:
    models = [of(tmp_path, name, 400) for name in ("a", "b", "c")]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        published.used["a", 1] = time.perf_counter()
        assert await repository.demand("c", 1) == ""
        assert serving(published) == ["a", "c"] and repository.room.used == 800
        slept = repository.models["b"].versions[1]
        assert slept.asleep and slept.error == "made room for others" and repository.ready
        published.used["c", 1] = time.perf_counter()
        assert await repository.demand("b", 1) == ""
        assert serving(published) == ["b", "c"]
        assert "~a:1" in published.steps

    run(test, *models, memory=LIMIT, on_demand=True)


def test_pinned_models_stay(tmp_path: Path) -> None:
    models = [of(tmp_path, "a", 400, pinned=True), of(tmp_path, "b", 400, pinned=True), of(tmp_path, "c", 400)]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        reason = await repository.demand("c", 1)
        assert reason.startswith("no room: it takes about 400 bytes, and 200 bytes of 1.0 kB")
        assert serving(published) == ["a", "b"] and repository.models["c"].versions[1].asleep

    run(test, *models, memory=LIMIT, on_demand=True)


def test_what_is_larger_than_the_limit_drives_nobody_out(tmp_path: Path) -> None:
    models = [of(tmp_path, "a", 400), of(tmp_path, "b", 1100)]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert serving(published) == ["a"]
        version = repository.models["b"].versions[1]
        assert version.state is State.END and "no room: it takes about 1.1 kB" in version.error

    run(test, *models, memory=LIMIT, on_demand=True)


def test_a_model_that_grew_when_it_was_loaded_makes_room_afterwards(tmp_path: Path) -> None:
    """The size of its files is a guess; what it really takes is known when it is there."""
    models = [of(tmp_path, "a", 600), of(tmp_path, "b", 600)]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert await repository.demand("b", 1) == ""
        assert serving(published) == ["b"] and repository.room.used == 600

    run(test, *models, memory=LIMIT, on_demand=True)


def test_a_new_version_may_make_others_leave_and_the_old_one_serves_meanwhile(tmp_path: Path) -> None:
    models = [of(tmp_path, "a", 400), of(tmp_path, "b", 400)]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        write_version(tmp_path / "a", 2, "2@500")
        await settled(repository, lambda: published.versions("a") == [2])
        assert serving(published) == ["a"] and repository.models["b"].versions[1].asleep
        assert published.steps.index("~b:1") < published.steps.index("+a:2") < published.steps.index("-a:1")

    run(test, *models, memory=LIMIT, on_demand=True)


def test_a_model_that_sleeps_is_unloaded_for_good_with_its_configuration(tmp_path: Path) -> None:
    a, b = of(tmp_path, "a", 600), of(tmp_path, "b", 600)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        await repository.apply(RepositoryConfig(models=(a,)))
        assert await repository.demand("b", 1) == "model 'b' is no longer configured"
        assert published.steps[-1] == "-b:1"

    run(test, a, b, memory=LIMIT, on_demand=True)


def test_a_model_that_does_not_load_any_more_is_told(tmp_path: Path) -> None:
    models = [of(tmp_path, "a", 600), of(tmp_path, "b", 600)]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        write_version(tmp_path / "b", 1, "broken")
        reason = await repository.demand("b", 1)
        assert "'broken' is not a number" in reason
        assert repository.models["b"].versions[1].state is State.END
        # Room was made before it was known.
        assert await repository.demand("a", 1) == "" and serving(published) == ["a"]

    run(test, *models, memory=LIMIT, on_demand=True)


def test_on_demand_needs_a_limit() -> None:
    with pytest.raises(ValueError, match="give a limit"):
        Room(0, True, list)


def test_the_growth_of_the_process_is_measured_for_a_load_alone() -> None:
    gauge = Gauge()
    block, grown = gauge.measure(lambda: bytearray(b"x") * (64 << 20), exact=True)
    assert grown is not None and 60 << 20 < grown < 90 << 20, grown
    del block

    def other() -> int | None:
        return gauge.measure(lambda: 0)[1]

    inner, outer = gauge.measure(other)
    assert inner is None and outer is None
    with pytest.raises(KeyError):
        gauge.measure(lambda: {}["x"])
    assert gauge.measure(lambda: 0)[1] is not None
