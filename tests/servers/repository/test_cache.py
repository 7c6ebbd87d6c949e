"""What a server leaves in its cache when it stops."""

from __future__ import annotations

import threading
from collections.abc import Collection
from pathlib import Path

import pytest
from fake_models import Gate, Published, settled, write_version
from remote_repository import kept, model, run

pytest.importorskip("fsspec", reason="models from URLs need fsspec")

from tensorwire.servers.repository.kept import Kept
from tensorwire.servers.repository.repository import Repository


def test_what_is_removed_while_a_server_stops_is_not_what_it_had(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_version(tmp_path / "base", 1)
    cache = tmp_path / "cache"
    asked, stopped, pruned = threading.Event(), threading.Event(), threading.Event()
    prune = Kept.prune

    def late(self: Kept, keep: Collection[Path] = ()) -> None:
        asked.set()
        assert stopped.wait(60)
        prune(self, keep)
        pruned.set()

    monkeypatch.setattr(Kept, "prune", late)

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        await settled(repository, asked.is_set)

    run(test, cache, model(f"file://{tmp_path}/base"))
    stopped.set()
    assert pruned.wait(60)
    assert kept(cache) == ["1: 1"]
