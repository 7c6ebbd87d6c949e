"""Changes on disk are told by the system, and polling is only the fall-back."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from fake_models import Gate, Published, make_repository, settled, write_version
from waiting import PATIENCE

from tensorwire.servers.repository import watching
from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.watching import Watcher

pytest.importorskip("watchfiles")


async def until(true: object, patience: float = PATIENCE) -> None:
    assert callable(true)
    for _ in range(int(patience / 0.02)):
        if true():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("never became true")


def test_each_model_is_told_of_its_own_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_LOOK_MS", 100)
    monkeypatch.setattr(watching, "_STARTED", 0.05)
    a, b = tmp_path / "a", tmp_path / "b"
    a.mkdir()

    async def main() -> None:
        told: list[str] = []
        inside: list[Collection[str] | None] = []

        def changed(name: str, folders: Collection[str] | None) -> None:
            told.append(name)
            inside.append(folders)

        watcher = Watcher(changed)
        watcher.watch({"a": a, "b": b})
        await until(lambda: told == ["a"])  # once, when the watching begins
        assert watcher.watches("a") and not watcher.watches("b")
        assert inside == [None]
        told.clear()
        (a / "1").mkdir()
        await until(lambda: told)
        assert set(told) == {"a"} and inside[-1] == {"1"}
        (a / "1" / "deep").mkdir()
        (a / "1" / "deep" / "file").touch()
        await until(lambda: len(told) > 1)
        assert inside[-1] == {"1"}
        b.mkdir()
        await until(lambda: "b" in told)
        await until(lambda: watcher.watches("b"))
        told.clear()
        (b / "deep").mkdir()
        await until(lambda: told)
        assert set(told) == {"b"}
        # Deleted and made again: another folder under the same name.
        shutil.rmtree(a)
        await until(lambda: not watcher.watches("a"))
        a.mkdir()
        await until(lambda: watcher.watches("a"))
        told.clear()
        (a / "2").mkdir()
        await until(lambda: "a" in told)
        await watcher.close()

    asyncio.run(main())


def test_a_watched_repository_does_not_wait_for_the_clock(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def main() -> None:
        published = Published()
        model = ModelConfig(name="m", path=str(tmp_path), settle=0.0, attempts=1)
        repository = make_repository(Gate(), published, model, poll=3600.0)
        repository.start()
        await repository.settled()
        assert published.versions() == [1]
        assert repository._watcher is not None
        await until(lambda: repository._watcher is not None and repository._watcher.watches("m"))
        write_version(tmp_path, 2)
        await settled(repository, lambda: published.versions() == [2])
        await repository.close()

    asyncio.run(main())


def test_what_cannot_be_watched_is_polled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import watchfiles

    def refuse(*paths: Path, **options: object) -> object:
        raise OSError("OS file watch limit reached")

    monkeypatch.setattr(watchfiles, "awatch", refuse)
    write_version(tmp_path, 1)

    async def main() -> None:
        published = Published()
        model = ModelConfig(name="m", path=str(tmp_path), settle=0.0, attempts=1)
        repository = make_repository(Gate(), published, model)
        repository.start()
        await repository.settled()
        write_version(tmp_path, 2)
        await settled(repository, lambda: published.versions() == [2])
        await repository.close()

    asyncio.run(main())
    assert "base paths cannot be watched, and are polled: OS file watch limit reached" in caplog.text
