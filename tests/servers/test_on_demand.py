"""Models that are loaded when somebody asks for them, with the requests that wait meanwhile."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import Gate, is_model, write_version
from processes import Start, first_line
from rawhttp import Raw
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire import Request
from tensorwire.servers.model import RequestError
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.service import Service

ONE = np.ones(1, np.float32)


def run(
    tmp_path: Path, test: Callable[[Service, Repository, Gate], Awaitable[None]], sizes: dict[str, int], **options: Any
) -> None:
    """A service of fake models of these sizes, under a limit of 1,000 bytes; a model adds its place in the list."""
    models = []
    for place, (name, nbytes) in enumerate(sizes.items()):
        write_version(tmp_path / name, 1, f"{place}@{nbytes}")
        models.append(ModelConfig(name=name, path=str(tmp_path / name), settle=0, attempts=1))

    async def main() -> None:
        gate = Gate()
        config = RepositoryConfig(models=tuple(models))
        service = Service(config=config, load=gate, poll=0, memory=1000, on_demand=True, **options)
        assert service.repository is not None
        service.repository._is_model = service.repository._loader._is_model = is_model
        service.start()
        try:
            await service.repository.settled()
            await asyncio.wait_for(test(service, service.repository, gate), 20)
        finally:
            gate.open.set()
            await service.stop()
        assert [model.closed for model in gate.loaded] == [1] * len(gate.loaded)

    asyncio.run(main())


async def ask(service: Service, name: str, **fields: Any) -> float:
    response = await service.infer(Request({"x": ONE}, model=name, **fields))
    return float(response.outputs["y"][0])


async def refused(service: Service, name: str, **fields: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await ask(service, name, **fields)
    return caught.value


def test_whoever_asks_has_the_model_loaded(tmp_path: Path) -> None:
    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        assert service.ready and [model.name for model in service.models] == ["a", "b"]
        # Asked for by many at once, it is loaded once.
        loads = gate.attempts
        assert await asyncio.gather(*[ask(service, "c") for _ in range(20)]) == [3.0] * 20
        assert gate.attempts == loads + 1
        assert await ask(service, "a") == 1.0
        assert service.requests == 21 and service.failures == 0 and service.in_flight == 0
        statuses = {status.name: status for status in service.status()}
        assert all(status.ready for status in statuses.values())

    run(tmp_path, test, {"a": 400, "b": 400, "c": 400})


def test_models_that_drive_each_other_out_all_answer(tmp_path: Path) -> None:
    """Two at a time fit for none: every request finds its model gone, and still gets its answer."""

    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        async def many(name: str, expected: float) -> None:
            for _ in range(10):
                assert await ask(service, name) == expected

        await asyncio.gather(many("a", 1.0), many("b", 2.0), many("c", 3.0))
        assert repository.room.used <= 1000

    run(tmp_path, test, {"a": 700, "b": 700, "c": 700})


def test_a_deadline_passes_while_the_model_is_loaded(tmp_path: Path) -> None:
    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        gate.open.clear()
        error = await refused(service, "b", deadline_ms=50)
        assert error.code == 504 and "before the model ran; it was still being loaded" in error.message
        assert service.expired == 1
        gate.open.set()
        assert await ask(service, "b") == 2.0

    run(tmp_path, test, {"a": 700, "b": 700})


def test_too_many_who_wait_are_refused(tmp_path: Path) -> None:
    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        gate.open.clear()
        waiting = [asyncio.ensure_future(ask(service, "b")) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert service.in_flight == 3
        error = await refused(service, "b")
        assert (error.code, error.message) == (503, "busy: 3 requests wait for models to be loaded")
        gate.open.set()
        assert await asyncio.gather(*waiting) == [2.0] * 3

    run(tmp_path, test, {"a": 700, "b": 700}, max_queue=3)


def test_a_model_that_cannot_be_loaded_any_more_says_why(tmp_path: Path) -> None:
    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        write_version(tmp_path / "b", 1, "broken")
        errors = await asyncio.gather(*[refused(service, "b") for _ in range(3)])
        for error in errors:
            assert error.code == 503 and "model 'b' version 1 cannot be loaded now" in error.message
            assert "'broken' is not a number" in error.message

    run(tmp_path, test, {"a": 700, "b": 700})


def test_who_waits_when_the_server_stops_is_told(tmp_path: Path) -> None:
    async def test(service: Service, repository: Repository, gate: Gate) -> None:
        gate.open.clear()
        waiting = asyncio.ensure_future(refused(service, "b"))
        await asyncio.sleep(0.01)
        stopping = asyncio.ensure_future(service.stop())
        assert (await waiting).message == "shutting down"
        gate.open.set()
        await stopping

    run(tmp_path, test, {"a": 700, "b": 700})


def test_served_from_the_command_line(tmp_path: Path, start: Start) -> None:
    """Real models, one in memory at a time, each in a process of its own that ends to give its memory back."""
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    for place, name in enumerate("ab"):
        write(tmp_path / name, 1, 10 * (place + 1))
    config = tmp_path / "models.toml"
    config.write_text("".join(f'[models.{name}]\npath = "{tmp_path / name}"\nsettle = 0\n' for name in "ab"))
    process = start(
        *("-m", "tensorwire", "serve", "--config", str(config), "--listen", f"unix:{tmp_path}/s", "--isolate"),
        *("--model-memory", "100MB", "--on-demand"),
    )
    assert "listening on" in first_line(process)
    url = f"unix://{tmp_path}/s"
    with Raw(url) as raw:
        wait_until(lambda: raw.get("/readyz").status == 200)
    with tw.Client(url, timeout=60) as client:
        for _ in range(2):
            for name, factor in (("a", 10), ("b", 20)):
                assert client.send(tw.Request({"x": X}, model=name)).outputs["y"][1] == factor
        with Raw(url) as raw:
            page = raw.get("/v1/models").body
        assert b'"limit":100000000' in page and b'"on_demand":true' in page, page
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "makes room for" in err


def test_a_load_that_hangs_does_not_keep_the_server_from_ending(tmp_path: Path, start: Start) -> None:
    pipe = tmp_path / "m" / "1"
    pipe.mkdir(parents=True)
    os.mkfifo(pipe / "model.onnx")  # whoever opens it waits for a writer
    config = tmp_path / "models.toml"
    config.write_text(f'[models.m]\npath = "{tmp_path / "m"}"\nsettle = 0\n')
    process = start("-m", "tensorwire", "serve", "--config", str(config), "--listen", f"unix:{tmp_path}/s")
    assert "listening on" in first_line(process)
    with Raw(f"unix://{tmp_path}/s") as raw:
        wait_until(lambda: b'"LOADING"' in raw.get("/v1/models").body)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 0
