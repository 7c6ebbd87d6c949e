"""Page-locked receive memory for models on a GPU, with a library in CUDA's place."""

from __future__ import annotations

import ctypes
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tensorwire as tw
from tensorwire.servers import pagelock
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.pagelock import PageLock
from tensorwire.servers.service import Service

MIB = 1 << 20
LOCK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_uint)
UNLOCK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p)
SELECT = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int)

_KEPT: list[Any] = []  # blocks are unlocked by these whenever they go


class Runtime:
    """A CUDA runtime without a GPU."""

    def __init__(self) -> None:
        self.locked: set[int] = set()
        self.count = 0
        self.devices: list[int] = []
        self.error = {"select": 0, "lock": 0, "unlock": 0}
        self.cudaHostRegister = LOCK(self._lock)
        self.cudaHostUnregister = UNLOCK(self._unlock)
        self.cudaSetDevice = SELECT(self._select)
        _KEPT.append(self)

    def _lock(self, data: int, nbytes: int, flags: int) -> int:
        if not self.error["lock"]:
            self.locked.add(data)
            self.count += 1
        return self.error["lock"]

    def _unlock(self, data: int) -> int:
        self.locked.remove(data)
        return self.error["unlock"]

    def _select(self, index: int) -> int:
        self.devices.append(index)
        return self.error["select"]


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Iterator[Runtime]:
    made = Runtime()
    monkeypatch.setattr(pagelock, "_runtime", lambda: made)
    tw.pool_trim()
    yield made
    tw.pool_trim()
    assert PageLock._held == 0
    assert not made.locked


class OnDevice(EchoModel):
    def __init__(self, device: str, name: str = "echo") -> None:
        super().__init__(name)
        self.device = device


def test_a_model_on_the_cpu_locks_nothing(runtime: Runtime) -> None:
    lock = PageLock("cpu")
    tw.Chunk(2 * MIB)
    lock.release()
    assert runtime.count == 0 and runtime.devices == []


@pytest.mark.parametrize(("device", "index"), [("cuda", 0), ("cuda:0", 0), ("cuda:3", 3)])
def test_the_models_device_is_made_current(runtime: Runtime, device: str, index: int) -> None:
    PageLock(device).release()
    assert runtime.devices == [index]
    assert not runtime.locked  # the trial


def test_locking_lasts_until_the_last_model_is_gone(runtime: Runtime) -> None:
    first, second = PageLock("cuda:0"), PageLock("cuda:1")
    first.release()
    first.release()
    chunk = tw.Chunk(2 * MIB)
    assert runtime.locked == {chunk.address}
    del chunk
    second.release()
    assert not runtime.locked  # what waited was given back
    count = runtime.count
    tw.Chunk(2 * MIB)
    assert runtime.count == count


@pytest.mark.parametrize("what", ["select", "lock", "unlock"])
def test_a_refusal_is_logged_and_the_model_served_all_the_same(
    runtime: Runtime, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    runtime.error[what] = 100
    with caplog.at_level(logging.WARNING, "tensorwire.pagelock"):
        service = Service([OnDevice("cuda:0")])
    assert "tensors for cuda:0 are not received into page-locked memory: cuda" in caplog.text
    assert "gave error 100" in caplog.text
    count = runtime.count
    tw.Chunk(2 * MIB)
    assert runtime.count == count
    service.close()


def test_a_model_in_a_process_of_its_own_needs_none_here(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    class Elsewhere(OnDevice):
        @property
        def memory(self) -> int:
            return 0

    service = Service([Elsewhere("cuda:0")])
    assert runtime.devices == [] and runtime.count == 0
    assert not [record for record in caplog.records if record.name == "tensorwire.pagelock"]
    service.close()


def test_without_a_runtime_it_says_so(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pagelock, "_MAPS", Path("/nonexistent"))
    lock = PageLock("cuda:0")
    assert "there is no libcudart in this process" in caplog.text
    lock.release()


def test_the_runtime_is_found_among_the_loaded_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    maps = tmp_path / "maps"
    library = Path(
        next(line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines() if "/libc.so" in line)
    )
    link = tmp_path / "libcudart-2f1a.so.13"
    link.symlink_to(library)
    maps.write_text(
        f"7f00-7f01 r-xp 00000000 08:01 12 /usr/lib/libother.so\n7f01-7f02 r-xp 00000000 08:01 13   {link}\n"
    )
    monkeypatch.setattr(pagelock, "_MAPS", maps)
    found = pagelock._runtime()
    assert found is not None and Path(found._name) == link
    maps.write_text(f"7f01-7f02 r-xp 00000000 08:01 13   {tmp_path}/libcudart.so.12\n")  # deleted since
    assert pagelock._runtime() is None


def test_a_server_receives_into_locked_memory(runtime: Runtime) -> None:
    seen: list[bool] = []

    class Looks(OnDevice):
        def run(self, signature: str, inputs: Any, outputs: Any) -> Any:
            address = inputs["x"].__array_interface__["data"][0]
            seen.append(any(start <= address < start + 8 * MIB for start in runtime.locked))
            return super().run(signature, inputs, outputs)

    x = np.arange(MIB, dtype=np.float32)
    with BackgroundServer(Looks("cuda:0")) as server, tw.Client(server.url) as client:
        np.testing.assert_array_equal(client.infer({"x": x})["x"], x)
    assert seen == [True]
