"""Base paths that are URLs: brought here whole, kept up to date, and missed by nobody while they are away."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fake_models import Gate, Published, make_repository, settled, write_version
from index_pages import IndexServer
from remote_repository import kept, model, offset, run

pytest.importorskip("fsspec", reason="models from URLs need fsspec")
pytest.importorskip("aiohttp", reason="models from URLs need aiohttp")

import fsspec

from tensorwire.servers.repository.config import VersionPolicy
from tensorwire.servers.repository.repository import Repository


class Tree:
    """A base path somewhere: ``url``; what is written to ``folder`` is there after ``sync``."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.folder = folder / "tree"
        self.folder.mkdir()
        self.kind = kind
        self.site = IndexServer(self.folder)
        self.name = uuid.uuid4().hex
        self.url = {
            "file": f"file://{self.folder}",
            "http": self.site.url,
            "memory": f"memory://{self.name}",
        }[kind]

    def sync(self) -> None:
        if self.kind == "memory":
            self.clear()
            for path in self.folder.rglob("*"):
                if path.is_file():
                    name = f"/{self.name}/{path.relative_to(self.folder)}"
                    fsspec.filesystem("memory").pipe_file(name, path.read_bytes())

    def clear(self) -> None:
        store = fsspec.filesystem("memory")
        if store.exists(f"/{self.name}"):
            store.rm(f"/{self.name}", recursive=True)

    def write(self, number: int | str, text: str = "1") -> None:
        write_version(self.folder, number, text)
        self.sync()

    def remove(self, number: int) -> None:
        shutil.rmtree(self.folder / str(number))
        self.sync()


@pytest.fixture
def trees(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Tree]]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made: list[Tree] = []

    def make(kind: str) -> Tree:
        made.append(Tree(kind, tmp_path))
        return made[-1]

    yield make
    for tree in made:
        tree.clear()
        tree.site.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_versions_come_change_break_and_go(kind: str, trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees(kind)
    for name in ("0001", "2", "not-a-version", "9" * 30):
        tree.write(name)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        managed = repository.models["m"]
        await settled(repository, lambda: published.versions() == [2])
        assert kept(cache) == ["2: 1"]
        tree.write(3, "3")
        await settled(repository, lambda: published.versions() == [3])
        await settled(repository, lambda: kept(cache) == ["3: 3"], "what is not used is removed")
        tree.write(3, "30")
        await settled(repository, lambda: offset(published, 3) == 30)
        await settled(repository, lambda: kept(cache) == ["3: 30"])
        tree.write(3, "broken")
        await settled(repository, lambda: managed.versions[3].error)
        assert "'broken' is not a number" in managed.versions[3].error
        assert offset(published, 3) == 30 and managed.versions[3].serves
        tree.remove(3)
        await settled(repository, lambda: published.versions() == [2], "the one before is the latest again")
        assert published.steps == ["+m:2", "+m:3", "-m:2", "+m:3", "+m:2", "-m:3"]

    run(test, cache, model(tree.url))


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_policies_and_the_way_back(kind: str, trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees(kind)
    for number in (1, 2, 3, 4):
        tree.write(number, str(number))

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1, 2, 3, 4])
        tree.site.asked.clear()

    async def again(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1, 2, 3, 4])

    everything = model(tree.url, policy=VersionPolicy(latest=0))
    run(test, cache, everything)
    assert kept(cache) == ["1: 1", "2: 2", "3: 3", "4: 4"]
    run(again, cache, everything)
    assert tree.site.fetched("model.fake") == 0, "a server that starts again has the files"


@pytest.mark.parametrize("kind", ["file", "memory", "http"])
def test_a_file_and_a_folder_without_versions_are_version_1(
    kind: str, trees: Callable[[str], Tree], cache: Path
) -> None:
    tree = trees(kind)
    tree.write("only", "5")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions("file") == published.versions("folder") == [1])

    file = model(f"{tree.url}/only/model.fake", name="file")
    run(test, cache, file, model(f"{tree.url}/only", name="folder"))


def test_a_version_that_is_still_being_copied_is_not_even_fetched(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("memory")
    tree.write(1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        for step in range(20):  # longer than the settle time, and never unchanged for so long
            tree.write(2, "2" * (step + 1))
            await asyncio.sleep(0.05)
            assert published.versions() == [1] and kept(cache) == ["1: 1"]
        await settled(repository, lambda: published.versions() == [2])

    run(test, cache, model(tree.url, settle=0.6))


def test_a_ready_file_says_that_a_version_is_complete(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("memory")
    tree.write(1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await asyncio.sleep(0.2)
        assert published.versions() == [] and kept(cache) == []
        (tree.folder / "1" / "DONE").touch()
        tree.sync()
        await settled(repository, lambda: published.versions() == [1])

    run(test, cache, model(tree.url, ready_file="DONE"))


def test_a_place_that_is_away_is_told_and_what_serves_goes_on(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("http")
    tree.write(1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        managed = repository.models["m"]
        await settled(repository, lambda: published.versions() == [1])
        tree.site.status = 503
        await settled(repository, lambda: "the server answered 503" in managed.problem)
        tree.site.status = 404
        await settled(repository, lambda: managed.problem == f"{tree.url}: no such file or folder")
        tree.site.close()
        await settled(repository, lambda: "cannot be read: Cannot connect" in managed.problem)
        assert published.versions() == [1] and repository.ready
        assert managed.versions[1].error == ""
        tree.write(2)
        tree.site.status = 200
        tree.site.start(tree.site.port)
        await settled(repository, lambda: published.versions() == [2])
        assert managed.problem == ""

    run(test, cache, model(tree.url))


def test_a_server_that_starts_while_the_place_is_away_serves_what_it_had(
    trees: Callable[[str], Tree], cache: Path
) -> None:
    tree = trees("http")
    tree.write(1)
    tree.write(2)

    async def first(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [2])
        tree.write(2, "20")
        await settled(repository, lambda: offset(published, 2) == 20)

    async def second(repository: Repository, published: Published, gate: Gate) -> None:
        managed = repository.models["m"]
        await settled(repository, lambda: published.versions() == [2])
        assert offset(published, 2) == 20
        assert "cannot be read: Cannot connect" in managed.problem
        tree.site.start(tree.site.port)
        await settled(repository, lambda: managed.problem == "")
        tree.write(3)
        await settled(repository, lambda: published.versions() == [3])
        assert published.steps == ["+m:2", "+m:3", "-m:2"], "what it had is what is there, and not loaded again"

    run(first, cache, model(tree.url))
    tree.site.close()
    run(second, cache, model(tree.url))


def test_places_that_hang_hold_nobody_up(trees: Callable[[str], Tree], cache: Path, tmp_path: Path) -> None:
    tree = trees("http")
    away = [f"away{number}" for number in range(12)]
    for name in away:
        write_version(tree.folder / name, 1)
    write_version(tmp_path / "here", 1)
    tree.site.answering.clear()
    tree.site.gate.clear()

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions("here") == [1])
        write_version(tmp_path / "here", 2)
        await settled(repository, lambda: published.versions("here") == [2], "while all looks at the others hang")
        tree.site.answering.set()
        await settled(repository, lambda: tree.site.fetched("model.fake"))
        write_version(tmp_path / "here", 3)
        await settled(repository, lambda: published.versions("here") == [3], "while downloads hang")
        assert not any(published.versions(name) for name in away)
        tree.site.gate.set()
        await settled(repository, lambda: all(published.versions(name) for name in away))

    here = model(str(tmp_path / "here"), name="here")
    run(test, cache, here, *[model(f"{tree.url}/{name}", name=name) for name in away])


def test_a_download_cut_short_leaves_nothing_and_is_tried_again(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("http")
    tree.write(1, "1.0" + "0" * 1000)
    tree.site.cut = 500

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        versions = repository.models["m"].versions
        await settled(repository, lambda: 1 in versions and versions[1].error)
        assert versions[1].error.startswith(f"{tree.url}: cannot be read: ")
        assert kept(cache) == [] and gate.attempts == 0
        tree.site.cut = None
        await settled(repository, lambda: published.versions() == [1])

    run(test, cache, model(tree.url))


def test_closing_during_a_download_leaves_nothing(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("http")
    tree.write(1, "1.0" + "0" * 1000)
    tree.site.gate.clear()

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: list(cache.glob("models/*/*.half")))

    run(test, cache, model(tree.url))
    tree.site.gate.set()

    async def gone() -> None:
        while list(cache.glob("models/*/*.half")):
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(gone(), 20))
    assert kept(cache) == []


def test_two_servers_on_one_cache_fetch_once(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("http")
    tree.write(1)

    async def main() -> None:
        servers = [(Published(), Gate()) for _ in range(3)]
        repositories = [make_repository(gate, published, model(tree.url), cache=cache) for published, gate in servers]
        for repository in repositories:
            repository.start()
        for repository, (published, _) in zip(repositories, servers, strict=True):
            await settled(repository, lambda published=published: published.versions() == [1])
        assert tree.site.fetched("1/model.fake") == 1
        tree.write(2)
        for repository, (published, _) in zip(repositories, servers, strict=True):
            await settled(repository, lambda published=published: published.versions() == [2])
        assert tree.site.fetched("2/model.fake") == 1
        await settled(repositories[0], lambda: kept(cache) == ["2: 1"])
        for repository in repositories:
            await repository.close()

    asyncio.run(main())


def test_what_cannot_be_read_is_told(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("file")
    (tree.folder / "1").mkdir()
    (tree.folder / "1" / "model.fake").symlink_to("/etc/hostname")
    (tree.folder / "2").mkdir()
    tree.write("empty/none")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        models = repository.models
        versions = models["m"].versions
        await settled(repository, lambda: 1 in versions and 2 in versions)
        assert "'model.fake' is a link or a device" in versions[1].error
        assert "the folder of version 2 is empty" in versions[2].error
        await settled(repository, lambda: all(models[name].problem for name in ("none", "driver", "policy")))
        assert models["none"].problem == f"{tree.url}/away: no such file or folder"
        assert "nothing is known of nonsense:// addresses" in models["driver"].problem
        assert "no version 7, 8 in it" in models["policy"].problem

    run(
        test,
        cache,
        model(tree.url, policy=VersionPolicy(latest=0)),
        model(f"{tree.url}/away", name="none"),
        model("nonsense://bucket/x", name="driver"),
        model(tree.url, name="policy", policy=VersionPolicy(specific=(7, 8))),
    )


def test_a_digest_in_the_url_is_held_against_the_file(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("http")
    tree.write(1, "5")
    right = hashlib.sha256(b"5").hexdigest()
    file = f"{tree.url}/1/model.fake#sha256="

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])

    async def refused(repository: Repository, published: Published, gate: Gate) -> None:
        versions = repository.models["m"].versions
        await settled(repository, lambda: 1 in versions and versions[1].error)
        assert f"its SHA-256 is {right}, not {'0' * 64}" in versions[1].error
        assert kept(cache) == []

    run(refused, cache, model(file + "0" * 64))
    run(test, cache, model(file + right))


@pytest.mark.parametrize("poll", [0.02, 0])
def test_a_start_with_broken_versions_fetches_older_ones_one_after_the_other(
    trees: Callable[[str], Tree], cache: Path, poll: float
) -> None:
    tree = trees("memory")
    for number, text in enumerate(("1", "2", "3", "broken", "broken too"), 1):
        tree.write(number, text)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        managed = repository.models["m"]
        await settled(repository, lambda: published.versions() == [3])
        assert published.steps == ["+m:3"]
        assert "2: 2" not in kept(cache)
        assert "is not a number" in managed.versions[5].error and "is not a number" in managed.versions[4].error
        tree.write(5, "50")
        repository.wake("m")
        await settled(repository, lambda: published.versions() == [5] or repository.wake("m"))
        assert published.steps == ["+m:3", "+m:5", "-m:3"]

    run(test, cache, model(tree.url), poll=poll)


def test_no_older_version_is_fetched_while_the_newest_may_still_come(trees: Callable[[str], Tree], cache: Path) -> None:
    tree = trees("memory")
    tree.write(1)
    tree.write(2, "2")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await asyncio.sleep(0.3)
        assert published.versions() == [] and kept(cache) == []
        await settled(repository, lambda: published.versions() == [2])
        assert published.steps == ["+m:2"]

    run(test, cache, model(tree.url, settle=0.6))
