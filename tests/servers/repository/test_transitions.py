"""What goes on serving while versions are waited for, do not load, or do not end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from fake_models import Gate, Published, settled, write_version
from fake_repository import model, run

from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.repository.version import State


@pytest.mark.parametrize("text", ["broken", None])
def test_a_version_that_does_not_load_takes_no_place(tmp_path: Path, text: str | None) -> None:
    """Two are wanted; the newest does not load (None: its folder is empty), so the two before it serve on."""
    for number in (1, 2):
        write_version(tmp_path, number)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1, 2])
        if text is None:
            (tmp_path / "3").mkdir()
        else:
            write_version(tmp_path, 3, text)
        versions = repository.models["m"].versions
        await settled(repository, lambda: 3 in versions and versions[3].error)
        await asyncio.sleep(0.1)
        assert published.versions() == [1, 2]
        write_version(tmp_path, 3, "3")
        await settled(repository, lambda: published.versions() == [2, 3])

    run(test, model(tmp_path, policy=VersionPolicy(latest=2)))


def test_at_the_start_an_older_version_serves_in_the_place_of_a_broken_one(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_version(tmp_path, 1, "1")
    write_version(tmp_path, 2, "broken too")
    write_version(tmp_path, 3, "broken")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        assert repository.ready
        states = {number: str(version.state) for number, version in repository.models["m"].versions.items()}
        assert states == {1: "AVAILABLE", 2: "END", 3: "END"}
        attempts = gate.attempts
        await asyncio.sleep(0.1)
        assert gate.attempts == attempts, "what is broken is not loaded again and again"
        write_version(tmp_path, 3, "3")
        await settled(repository, lambda: published.versions() == [3])

    run(test, model(tmp_path))
    assert "version 1 is loaded in the place of newer ones" in caplog.text


def test_a_specific_version_has_no_stand_in(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    write_version(tmp_path, 2, "broken")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert published.versions() == [] and not repository.ready
        assert repository.models["m"].problem == f"{tmp_path}: no version 7 in it"

    run(test, model(tmp_path, policy=VersionPolicy(specific=(2, 7))))


def test_versions_that_wait_are_told_of_with_the_reason(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        versions = repository.models["m"].versions
        (tmp_path / "1").mkdir()
        await settled(repository, lambda: 1 in versions)
        assert (versions[1].state, versions[1].error) == (State.START, "the folder is empty")
        write_version(tmp_path, 1)
        await settled(repository, lambda: published.versions() == [1])
        assert versions[1].error == ""
        (tmp_path / "2").mkdir()
        await settled(repository, lambda: 2 in versions)
        (tmp_path / "2").rmdir()
        await settled(repository, lambda: 2 not in versions)

    run(test, model(tmp_path))
    assert f"model 'm' version 1 waits: {tmp_path / '1'}: the folder is empty" in caplog.text


def test_a_version_without_its_ready_file_waits(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        version = repository.models["m"].versions[1]
        assert (version.state, version.error) == (State.START, "there is no DONE in it")
        write_version(tmp_path, 1, "", name="DONE")
        await settled(repository, lambda: published.versions() == [1])
        # The old marker is no word for new files.
        write_version(tmp_path, 1, "half a numb")
        await asyncio.sleep(0.1)
        assert gate.attempts == 1
        write_version(tmp_path, 1, "2")
        write_version(tmp_path, 1, "", name="DONE")
        await settled(repository, lambda: published.steps == ["+m:1", "+m:1"])
        assert gate.attempts == 2
        assert published.serving["m", 1].offset == 2  # type: ignore[attr-defined]

    run(test, model(tmp_path, ready_file="DONE", settle=600.0))


def test_a_request_that_does_not_end_holds_no_later_version_up(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        published.hold.clear()
        try:
            for number in (2, 3):
                write_version(tmp_path, number)
                await settled(repository, lambda number=number: f"+m:{number}" in published.steps)

            def states() -> dict[int, str]:
                return {number: str(version.state) for number, version in repository.models["m"].versions.items()}

            # 2 is retired a step after 3 serves.
            await settled(repository, lambda: states() == {1: "UNLOADING", 2: "UNLOADING", 3: "AVAILABLE"})
        finally:
            published.hold.set()
        await settled(repository, lambda: published.versions() == [3])

    run(test, model(tmp_path))


def test_configurations_that_overlap_leave_what_the_last_one_says(tmp_path: Path) -> None:
    for name in ("x", "y"):
        write_version(tmp_path / name, 1)
    x, y = (model(tmp_path / name, name=name) for name in ("x", "y"))

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        gone: list[str] = []
        published.hold.clear()
        # x is unloaded, with a request in flight; then y; then x comes back before that request ends.
        first = asyncio.ensure_future(repository.apply(RepositoryConfig(models=(y,)), gone.append))
        await settled(repository, lambda: "-x:1" in published.steps)
        second = asyncio.ensure_future(repository.apply(RepositoryConfig(models=()), gone.append))
        await settled(repository, lambda: "-y:1" in published.steps)
        third = asyncio.ensure_future(repository.apply(RepositoryConfig(models=(x,)), gone.append))
        await settled(repository, lambda: published.steps[-1] == "+x:1")
        published.hold.set()
        await asyncio.gather(first, second, third)
        assert list(repository.models) == ["x"] and repository.models["x"].available == (1,)
        assert repository.ready and "y" in gone and gone.count("x") <= 1

    run(test, x, y)


def test_a_change_of_rules_loads_nothing_again(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    config = model(tmp_path)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        changed: ModelConfig = replace(config, labels={"stable": 1}, pinned=True)
        await repository.apply(RepositoryConfig(models=(changed,)))
        assert gate.attempts == 1 and published.steps == ["+m:1"]

    run(test, config)


def test_an_empty_folder_is_not_looked_at_all_the_time(tmp_path: Path) -> None:
    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        (tmp_path / "1").mkdir()
        managed = repository.models["m"]
        repository.wake("m")
        await settled(repository, lambda: 1 in managed.versions)
        assert managed.waiting
        await settled(repository, lambda: not managed.waiting)

    run(test, model(tmp_path), poll=0.1)
