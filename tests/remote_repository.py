"""Running a test with a repository of fake models whose base paths are URLs, and looking into its cache."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fake_models import FakeModel, Gate, Published, make_repository
from waiting import PATIENCE

from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.repository import Repository

__all__ = ["kept", "model", "offset", "run"]

Test = Callable[[Repository, Published, Gate], Awaitable[None]]


def run(test: Test, cache: Path, *models: ModelConfig, **options: Any) -> None:
    async def main() -> None:
        published, gate = Published(), Gate()
        repository = make_repository(gate, published, *models, cache=cache, **options)
        repository.start()
        try:
            await asyncio.wait_for(test(repository, published, gate), 2 * PATIENCE)
        finally:
            await repository.close()
        assert published.serving == {}

    asyncio.run(main())


def model(url: str, **fields: Any) -> ModelConfig:
    return ModelConfig(**{"name": "m", "path": url, "settle": 0.0, "attempts": 1, **fields})


def kept(cache: Path) -> list[str]:
    """The versions that are in a cache, as 'NUMBER: text of the model', whole or not."""
    found = []
    for place in cache.glob("models/*/*"):
        if place.suffix != ".lock":
            model = place / "model.fake"
            with contextlib.suppress(FileNotFoundError):  # it is being removed
                found.append(f"{place.name.partition('-')[0]}: {model.read_text() if model.exists() else None}")
    return sorted(found)


def offset(published: Published, number: int) -> float:
    serving = published.serving["m", number]
    assert isinstance(serving, FakeModel)
    return serving.offset
