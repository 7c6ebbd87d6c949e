"""Versions that come, go, break and are replaced, with what serves never lost for it."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path

import pytest
from fake_models import FakeModel, Gate, Published, make_repository, settled, write_version
from fake_repository import model, run

from tensorwire.servers.repository.config import RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.repository.version import State


@pytest.mark.parametrize(
    ("policy", "served"),
    [
        (VersionPolicy(), [3]),
        (VersionPolicy(latest=2), [2, 3]),
        (VersionPolicy(latest=0), [1, 2, 3]),
        (VersionPolicy(specific=(1, 3, 9)), [1, 3]),
    ],
)
def test_policies(tmp_path: Path, policy: VersionPolicy, served: list[int]) -> None:
    for number in (1, 2, 3):
        write_version(tmp_path, number)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert published.versions() == served
        assert repository.ready

    run(test, model(tmp_path, policy=policy))


def test_a_new_version_is_loaded_and_warm_before_the_old_one_goes(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        gate.open.clear()
        write_version(tmp_path, 2, "2")
        versions = repository.models["m"].versions
        await settled(repository, lambda: 2 in versions and versions[2].state is State.LOADING)
        assert published.versions() == [1]
        gate.open.set()
        await settled(repository, lambda: published.versions() == [2])
        assert published.steps == ["+m:1", "+m:2", "-m:1"]
        assert [loaded.runs for loaded in gate.loaded] == [1, 1]
        assert versions[1].state is State.END
        assert list(versions[1].since) == [State.START, State.LOADING, State.AVAILABLE, State.UNLOADING, State.END]

    run(test, model(tmp_path))


def test_with_the_resource_policy_the_old_one_goes_first(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        write_version(tmp_path, 2)
        await settled(repository, lambda: published.versions() == [2])
        assert published.steps == ["+m:1", "-m:1", "+m:2"]
        write_version(tmp_path, 3, "broken")
        await settled(repository, lambda: published.steps[-2:] == ["-m:2", "+m:2"], "the old one is back")

    run(test, model(tmp_path, transition="resource"))


def test_a_broken_version_leaves_the_old_one_serving_until_it_is_mended(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        write_version(tmp_path, 2, "half a numb")
        versions = repository.models["m"].versions
        await settled(repository, lambda: 2 in versions and versions[2].state is State.END)
        assert "'half a numb' is not a number" in versions[2].error
        attempts = gate.attempts
        await asyncio.sleep(0.1)
        assert gate.attempts == attempts, "the same broken files are not loaded again and again"
        assert published.versions() == [1] and repository.ready
        write_version(tmp_path, 2, "2")
        await settled(repository, lambda: published.versions() == [2])
        assert versions[2].error == ""

    run(test, model(tmp_path))


def test_files_replaced_under_the_same_number_are_served_and_broken_ones_are_not(tmp_path: Path) -> None:
    write_version(tmp_path, 1, "1")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        def offset() -> float:
            serving = published.serving["m", 1]
            assert isinstance(serving, FakeModel)
            return serving.offset

        await repository.settled()
        write_version(tmp_path, 1, "10")
        await settled(repository, lambda: offset() == 10)
        write_version(tmp_path, 1, "x")
        version = repository.models["m"].versions[1]
        await settled(repository, lambda: version.error)
        assert offset() == 10 and version.serves

    run(test, model(tmp_path))


def test_deleted_versions_and_base_paths(tmp_path: Path) -> None:
    base = tmp_path / "base"
    write_version(base, 1)
    write_version(base, 2)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        managed = repository.models["m"]
        shutil.rmtree(base / "2")
        await settled(repository, lambda: published.versions() == [1], "the one before is the latest again")
        shutil.rmtree(base / "1")
        await settled(repository, lambda: "no version folder in it" in managed.problem)
        assert published.versions() == [1]
        base.rename(tmp_path / "away")
        await settled(repository, lambda: "No such file" in managed.problem)
        assert published.versions() == [1] and repository.ready
        write_version(base, 5)
        await settled(repository, lambda: published.versions() == [5])
        assert managed.problem == ""

    run(test, model(base))


def test_a_folder_that_is_still_being_copied_is_not_taken(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        folder = tmp_path / "2"
        folder.mkdir()
        for _ in range(20):  # longer than the settle time, and never unchanged for so long
            (folder / "model.fake").write_text("2")
            await asyncio.sleep(0.05)
            assert published.versions() == [1]
        await settled(repository, lambda: published.versions() == [2])

    run(test, model(tmp_path, settle=0.4))


def test_a_ready_file_says_that_a_folder_is_complete(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        await asyncio.sleep(0.1)
        assert published.versions() == [] and not repository.ready
        (tmp_path / "1" / ".ready").touch()
        await settled(repository, lambda: published.versions() == [1])

    run(test, model(tmp_path, ready_file=".ready"))


def test_links_that_lead_nowhere_and_unreadable_folders_are_told(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        (tmp_path / "2").symlink_to(tmp_path / "nowhere")
        versions = repository.models["m"].versions
        await settled(repository, lambda: 2 in versions)
        assert versions[2].state is State.END and "a link that leads nowhere" in versions[2].error
        assert published.versions() == [1]

    run(test, model(tmp_path))


def test_attempts(tmp_path: Path) -> None:
    write_version(tmp_path, 1, "no")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert gate.attempts == 2
        assert "is not a number" in repository.models["m"].versions[1].error

    run(test, model(tmp_path, attempts=2))


def test_a_new_configuration_loads_unloads_and_keeps(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_version(tmp_path / name, 1)
        write_version(tmp_path / name, 2)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        published.steps.clear()
        kept = published.serving["b", 2]
        await repository.apply(
            RepositoryConfig(
                models=(
                    model(tmp_path / "b", name="b", policy=VersionPolicy(latest=2)),
                    model(tmp_path / "c", name="c"),
                )
            )
        )
        assert sorted(published.steps) == ["+b:1", "+c:2", "-a:2"]
        assert published.serving["b", 2] is kept
        await repository.apply(
            RepositoryConfig(models=(model(tmp_path / "c", name="b", policy=VersionPolicy(latest=2)),))
        )
        assert published.versions("b") == [1, 2] and published.versions("c") == []
        assert published.serving["b", 2] is not kept

    run(test, model(tmp_path / "a", name="a"), model(tmp_path / "b", name="b"))


def test_a_model_ends_though_it_is_told_to_look_at_the_same_time(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        await asyncio.sleep(0.1)  # it waits for its next look
        repository.wake("m")
        await asyncio.wait_for(repository.apply(RepositoryConfig(models=())), 20)
        assert published.versions() == []

    run(test, model(tmp_path), poll=60.0)


def test_closing_while_a_model_is_loaded_leaves_nothing_open(tmp_path: Path) -> None:
    write_version(tmp_path, 1)

    async def main() -> None:
        published, gate = Published(), Gate()
        gate.open.clear()
        repository = make_repository(gate, published, model(tmp_path))
        repository.start()
        await settled(repository, lambda: gate.attempts)
        await repository.close()
        gate.open.set()
        await settled(repository, lambda: gate.loaded and gate.loaded[0].closed)
        assert published.steps == []

    asyncio.run(main())
