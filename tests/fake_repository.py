"""Running a test with a repository of fake models, which must leave every model closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from fake_models import Gate, Published, make_repository
from waiting import PATIENCE

from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.repository import Repository

__all__ = ["model", "run"]

Test = Callable[[Repository, Published, Gate], Awaitable[None]]


def run(test: Test, *models: ModelConfig, **options: Any) -> None:
    async def main() -> None:
        published, gate = Published(), Gate()
        repository = make_repository(gate, published, *models, **options)
        repository.start()
        try:
            await asyncio.wait_for(test(repository, published, gate), 2 * PATIENCE)
        finally:
            gate.open.set()
            await repository.close()
        assert published.serving == {}
        assert [model.closed for model in gate.loaded] == [1] * len(gate.loaded)

    asyncio.run(main())


def model(base: Path, **fields: Any) -> ModelConfig:
    return ModelConfig(**{"name": "m", "path": str(base), "settle": 0.0, "attempts": 1, **fields})
