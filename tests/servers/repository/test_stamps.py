"""Of many versions not all are looked into every time, and what happens to them is seen all the same."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Collection
from pathlib import Path

import pytest
from fake_models import Gate, Published, is_model, settled, write_version
from fake_repository import model, run

from tensorwire.servers.repository import stamps
from tensorwire.servers.repository.config import VersionPolicy
from tensorwire.servers.repository.layout import Stamp, look
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.repository.scan import Scan, Scanner

ALL = VersionPolicy(latest=0)
COUNT = 9


class Looks:
    """A scanner of some versions, and the numbers of those that it looks into."""

    def __init__(self, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.base = base
        self.numbers: list[int] = []
        self._scanner = Scanner(base, is_model)
        monkeypatch.setattr(stamps, "look", self._look)
        monkeypatch.setattr(stamps, "_REST", 0.0)

    def _look(self, path: Path) -> Stamp:
        self.numbers.append(int(path.name))
        return look(path)

    def scan(self, doubts: Collection[str] | None = (), rest: float = 0.0) -> Scan:
        self.numbers.clear()
        return self._scanner.scan(ALL, doubts, rest)


@pytest.fixture
def looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Looks:
    monkeypatch.setattr(stamps, "_WINDOW", 2)
    for number in range(1, COUNT + 1):
        write_version(tmp_path, number)
        (tmp_path / str(number) / "deep").mkdir()
        (tmp_path / str(number) / "deep" / "data").write_text("1")
    found = Looks(tmp_path, monkeypatch)
    assert sorted(found.scan().stamps) == list(range(1, COUNT + 1))
    return found


def test_every_version_has_its_turn(looks: Looks) -> None:
    seen: list[int] = []
    for _ in range(COUNT):
        looks.scan()
        assert len(looks.numbers) == 2
        seen += looks.numbers
    assert sorted(seen) == sorted([*range(1, COUNT + 1)] * 2)


def test_few_versions_are_all_looked_into(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "_WINDOW", COUNT)
    looks.scan()
    assert len(looks.numbers) == COUNT


def test_a_change_in_the_folder_itself_is_seen_at_once(looks: Looks) -> None:
    before = looks.scan().stamps
    base = looks.base
    (base / "1" / "more").write_text("12")
    (base / "2" / "model.fake").unlink()
    write_version(base.parent / "away", 3, "33")
    shutil.rmtree(base / "3")
    (base.parent / "away" / "3").rename(base / "3")
    shutil.rmtree(base / "4")
    (base / "5").rename(base / "55")
    shutil.rmtree(base / "6")
    (base / "6").symlink_to(base / "nowhere")
    (base / "7" / "model.fake").rename(base / "7" / "other.fake")
    seen = looks.scan()
    assert {1, 2, 3, 55, 7} <= set(looks.numbers)
    assert sorted(seen.stamps) == [1, 2, 3, 7, 8, 9, 55]
    assert [number for number in (1, 2, 3, 7, 8, 9) if seen.stamps[number] != before[number]] == [1, 2, 3, 7]
    assert seen.unreadable == {6: f"{base / '6'}: a link that leads nowhere"}


def test_a_change_deep_inside_is_seen_when_its_turn_comes(looks: Looks) -> None:
    before = looks.scan().stamps
    (looks.base / "5" / "deep" / "data").write_text("123")
    for _ in range((COUNT + 1) // 2):
        after = looks.scan().stamps
    assert [number for number in before if after[number] != before[number]] == [5]


def test_a_change_deep_inside_is_seen_at_once_when_somebody_tells_of_it(looks: Looks) -> None:
    before = looks.scan().stamps
    (looks.base / "5" / "deep" / "data").write_text("123")
    assert looks.scan({"5"}).stamps[5] != before[5]
    (looks.base / "6" / "deep" / "data").write_text("123")
    assert looks.scan(None).stamps[6] != before[6]
    assert len(looks.numbers) == COUNT


def test_files_that_change_are_looked_into_until_they_rest(looks: Looks) -> None:
    looks.scan(rest=3600.0)
    assert len(looks.numbers) == COUNT


def test_a_base_path_that_was_away_is_looked_into(looks: Looks) -> None:
    looks.base.rename(looks.base.parent / "elsewhere")
    assert looks.scan().problem
    (looks.base.parent / "elsewhere").rename(looks.base)
    looks.scan()
    assert len(looks.numbers) == COUNT


def test_what_the_system_tells_of_is_loaded_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stamps, "_WINDOW", 1)
    monkeypatch.setattr(stamps, "_REST", 0.0)
    for number in range(1, COUNT + 1):
        write_version(tmp_path, number)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        await asyncio.sleep(0.1)  # files have come to rest
        await repository.models["m"].reconcile()
        for changed, folders in ((4, {"4"}), (7, None)):
            before = published.serving["m", changed]
            (tmp_path / str(changed) / "model.fake").write_text("5")  # the folder itself does not tell
            repository.wake("m", folders)
            await settled(repository, lambda: published.serving["m", changed] is not before)  # noqa: B023

    run(test, model(tmp_path, policy=ALL), poll=3600.0, watch=False)
