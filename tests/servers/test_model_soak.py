"""Models that come and go for long: no request is lost, nothing grows, and what it costs is told.

TENSORWIRE_SOAK is the measure: a thousandth of it are the swaps, 10 if unset. No timing is asserted.
"""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from fake_models import Gate, Published, make_repository, write_version
from processes import Start, first_line
from rawhttp import Raw
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.model import Model
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.resident import resident

SOAK = int(os.environ.get("TENSORWIRE_SOAK", 10_000))
SWAPS = SOAK // 1000
ROUNDS = max(SWAPS, 100)
MODELS = min(SOAK // 500, 200)
FOLDERS = min(SOAK // 10, 10_000)
CLIENTS = 8
QUIET = min(SWAPS / 50, 10.0)  # seconds without a swap, before and after them
SLACK = 8 << 20  # bytes that allocators keep, of a process that has few to begin with


def assert_flat(before: int, after: int) -> None:
    """Within 5 %, but not under AddressSanitizer, which keeps what is freed."""
    if "libasan" not in os.environ.get("LD_PRELOAD", ""):
        assert after - before < max(before // 20, SLACK), f"{before:,} bytes became {after:,}"


class _Clients:
    """Threads that ask one after the other, and hold each answer against the versions that may have given it."""

    def __init__(self, url: str) -> None:
        self.wrong: list[object] = []
        self.seconds: list[float] = []
        self.oldest = self.newest = 1  # set by the test: ``newest`` before a version appears, ``oldest`` when it serves
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(url,)) for _ in range(CLIENTS)]
        for thread in self._threads:
            thread.start()

    def p99(self) -> float:
        """Of the answers since the last call, in ms."""
        seconds, self.seconds = self.seconds, []
        return float(np.percentile(seconds, 99)) * 1e3

    def stop(self) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, url: str) -> None:
        with tw.Client(url, retries=0) as client:
            while not self._stop.is_set():
                oldest, began = self.oldest, time.perf_counter()
                try:
                    value = float(client.infer({"x": X})["y"][1])
                except Exception as error:
                    self.wrong.append(error)
                    return
                self.seconds.append(time.perf_counter() - began)
                if not oldest <= value <= self.newest:
                    self.wrong.append((oldest, value, self.newest))


@pytest.mark.slow
def test_swaps_under_load(tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    base = tmp_path / "a"
    write(base, 1, 1)
    config = tmp_path / "models.toml"
    config.write_text(f'[models.a]\npath = "{base}"\nsettle = 0\noptions = {{ intra_op_num_threads = 1 }}\n')
    listen = f"unix:{tmp_path}/s"
    process = start("-m", "tensorwire", "serve", "--config", str(config), "--listen", listen, "--poll", "0.02")
    assert "listening on" in first_line(process)
    assert process.stderr is not None
    threading.Thread(target=process.stderr.read, daemon=True).start()  # a full pipe would hold the server up
    url = f"unix://{tmp_path}/s"

    def serves(number: int) -> bool:
        with Raw(url) as raw:
            versions = orjson.loads(raw.get("/v1/models/a").body)["model_version_status"]
        return [v["version"] for v in versions if v["state"] != "END"] == [str(number)] and any(
            v["state"] == "AVAILABLE" for v in versions
        )

    wait_until(partial(serves, 1))
    clients = _Clients(url)
    try:
        time.sleep(QUIET)
        quiet, sizes = clients.p99(), []
        for number in range(2, SWAPS + 2):
            clients.newest = number
            write(base, number, number)
            wait_until(partial(serves, number))
            clients.oldest = number
            shutil.rmtree(base / str(number - 1))
            assert clients.wrong == []
            sizes.append(resident(process.pid))
        answers, swapping = len(clients.seconds), clients.p99()
        time.sleep(QUIET)
        after = clients.p99()
    finally:
        clients.stop()
    assert clients.wrong == []
    # The first ones fill the allocator's pools.
    early = sizes[len(sizes) // 5]
    with capsys.disabled():
        print(f"\n{SWAPS} swaps, {answers:,} answers: p99 {swapping:.2f} ms (quiet: {quiet:.2f} before, {after:.2f}")
        print(f"after); resident {early / 2**20:.1f} MiB after a fifth, {sizes[-1] / 2**20:.1f} at the end")
    assert_flat(early, sizes[-1])


def test_many_models_in_one_server(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    for number in range(MODELS):
        write(tmp_path / f"m{number}", 1, number)
    configs = [
        ModelConfig(name=f"m{number}", path=str(tmp_path / f"m{number}"), settle=0, options={"intra_op_num_threads": 1})
        for number in range(MODELS)
    ]
    before, began = resident(), time.perf_counter()
    with BackgroundServer(config=RepositoryConfig(models=tuple(configs)), poll=0.5) as server:
        wait_until(lambda: server.app.service.ready)
        seconds, each = time.perf_counter() - began, (resident() - before) / MODELS
        with tw.Client(server.url) as client:
            for number in range(MODELS):
                found = client.send(tw.Request({"x": X}, model=f"m{number}"))
                assert found.outputs["y"][1] == number
        idle = time.process_time()
        time.sleep(1)
        idle = time.process_time() - idle
    with capsys.disabled():
        print(f"\n{MODELS} models: ready after {seconds:.1f} s, {each / 1024:.0f} KiB each, {idle * 1e3:.0f} ms/s idle")


def test_loading_and_unloading_gives_all_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    for name in ("a", "b"):
        write(tmp_path / name, 1, 2)
    one, other = (
        ModelConfig(name=name, path=str(tmp_path / name), settle=0, options={"intra_op_num_threads": 1})
        for name in ("a", "b")
    )
    sizes, threads = [], []
    with BackgroundServer(config=RepositoryConfig(models=(one,)), poll=0) as server, tw.Client(server.url) as client:
        service = server.app.service
        wait_until(lambda: service.ready)

        def configure(*models: ModelConfig) -> None:
            step = service.configure(RepositoryConfig(models=models))
            asyncio.run_coroutine_threadsafe(step, server.loop).result(60)

        for _ in range(ROUNDS):
            configure(one, other)
            assert client.send(tw.Request({"x": X}, model="b")).outputs["y"][1] == 2
            configure(one)
            sizes.append(resident())
            threads.append(threading.active_count())
        gc.collect()
        assert len(service.models) == 1
        assert sum([isinstance(each, Model) and each.name == "b" for each in gc.get_objects() if _is_model(each)]) == 0
    early = sizes[len(sizes) // 5]
    with capsys.disabled():
        print(f"\n{ROUNDS} rounds: resident {early / 2**20:.1f} MiB after a fifth, {sizes[-1] / 2**20:.1f} at the end")
    assert_flat(early, sizes[-1])
    # Pools of threads grow until they have as many as they may.
    assert threads[-1] < threads[0] + 50


def _is_model(value: Any) -> bool:
    return issubclass(type(value), Model)


def test_a_poll_over_many_version_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, FOLDERS + 1):
        write_version(tmp_path, number)

    async def main() -> list[float]:
        config = ModelConfig(name="m", path=str(tmp_path), settle=0)
        published = Published()
        repository = make_repository(Gate(), published, config, poll=0)
        repository.start()
        await repository.settled()
        assert published.versions() == [FOLDERS]
        spent = []
        for _ in range(5):
            began = time.process_time()
            await repository.models["m"].reconcile()
            spent.append(time.process_time() - began)
        await repository.close()
        return spent

    spent = asyncio.run(main())
    with capsys.disabled():
        print(f"\na poll over {FOLDERS:,} version folders: {min(spent) * 1e3:.1f} to {max(spent) * 1e3:.1f} ms of CPU")
