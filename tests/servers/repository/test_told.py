"""What the log and the status say of what is wrong with files and labels, and when it is over."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from fake_models import Gate, Published, settled, write_version
from fake_repository import model, run

from tensorwire.servers.repository import layout
from tensorwire.servers.repository.config import RepositoryConfig
from tensorwire.servers.repository.layout import unreadable
from tensorwire.servers.repository.repository import Repository


def test_a_label_of_a_version_that_does_not_serve_is_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_version(tmp_path, 1)

    def told() -> list[str]:
        return [record.message for record in caplog.records if "label" in record.message]

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        line = "model 'm': label 'canary': version 7 is not available: it has 1"
        assert told() == [line]
        await repository.reload("m")
        assert told() == [line]
        await repository.apply(RepositoryConfig(models=(model(tmp_path, labels={"stable": 1, "canary": 8}),)))
        assert told() == [line, line.replace("7", "8")]
        write_version(tmp_path, 8)
        await settled(repository, lambda: published.versions() == [8])
        await settled(repository, lambda: len(told()) == 3)
        assert told()[2] == "model 'm': label 'stable': version 1 is not available: it has 8"

    run(test, model(tmp_path, labels={"stable": 1, "canary": 7}))


def test_a_base_path_that_is_back_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    base = tmp_path / "base"
    write_version(base, 1)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        base.rename(tmp_path / "away")
        await settled(repository, lambda: repository.models["m"].problem)
        (tmp_path / "away").rename(base)
        await settled(repository, lambda: not repository.models["m"].problem)
        assert f"model 'm': {base} is as it should be again" in caplog.text

    run(test, model(base))


def test_what_was_never_more_than_a_broken_link_is_forgotten_with_it(tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    (tmp_path / "2").symlink_to(tmp_path / "nowhere")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        versions = repository.models["m"].versions
        assert "a link that leads nowhere" in versions[2].error
        (tmp_path / "2").unlink()
        await settled(repository, lambda: list(versions) == [1])

    run(test, model(tmp_path))


def test_files_that_may_not_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever an engine makes of them; the superuser may read all, so that the system's answer is made up."""
    folder = write_version(tmp_path, 1, "no number")
    (folder / "inside").mkdir()
    secret = folder / "inside" / "data"
    secret.touch()
    assert unreadable(folder) is None and unreadable(folder / "model.fake") is None
    monkeypatch.setattr(layout.os, "access", lambda path, mode: Path(path) != secret)
    assert unreadable(folder) == secret

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await repository.settled()
        assert repository.models["m"].versions[1].error == f"{secret}: Permission denied"

    run(test, model(tmp_path))
