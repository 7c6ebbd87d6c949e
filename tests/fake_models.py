"""Models of a made-up format: a file `*.fake` whose text says what the model is."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from waiting import PATIENCE

from tensorwire import TensorSpec
from tensorwire.servers.model import Array, Model, ModelError, Signature
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.repository.repository import Repository

__all__ = ["FakeModel", "Gate", "Published", "is_model", "make_repository", "settled", "write_version"]


class FakeModel(Model):
    """Answers x + the number in its file; a text that is no number does not load. '1@500' says that it takes 500 bytes
    in a process of its own.
    """

    default_signature = "serving_default"

    def __init__(self, path: Path) -> None:
        text, _, nbytes = path.read_text().partition("@")
        self.nbytes = int(nbytes) if nbytes else None
        try:
            self.offset = float(text)
        except ValueError:
            raise ModelError(f"{path}: {text!r} is not a number") from None
        spec = (TensorSpec("x", np.float32, (-1,)),)
        self.signatures = {"serving_default": Signature("serving_default", spec, (TensorSpec("y", np.float32, (-1,)),))}
        self.engine = "fake"
        self.runs = 0
        self.closed = 0

    @property
    def memory(self) -> int | None:
        return self.nbytes

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        assert not self.closed, "a closed model was run"
        self.runs += 1
        return {"y": inputs["x"] + np.float32(self.offset)}

    def close(self) -> None:
        self.closed += 1


class Gate:
    """Loads fake models, holding each load until it is let through; counts attempts."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.open.set()
        self.attempts = 0
        self.loaded: list[FakeModel] = []

    def __call__(self, path: Path, config: ModelConfig) -> Model:
        self.attempts += 1
        assert self.open.wait(60)
        model = FakeModel(path)
        self.loaded.append(model)
        return model


class Published:
    """What serves, with every step noted in order."""

    def __init__(self) -> None:
        self.serving: dict[tuple[str, int], Model] = {}
        self.steps: list[str] = []
        self.used: dict[tuple[str, int], float] = {}
        self.hold = asyncio.Event()
        self.hold.set()

    def publish(self, name: str, number: int, model: Model) -> None:
        self.steps.append(f"+{name}:{number}")
        old = self.serving.get((name, number))
        if old is not None:
            old.close()
        self.serving[name, number] = model

    async def retire(self, name: str, number: int) -> None:
        self.steps.append(f"-{name}:{number}")
        await self.hold.wait()
        if (name, number) in self.serving:
            self.serving.pop((name, number)).close()

    async def rest(self, name: str, number: int) -> None:
        self.steps.append(f"~{name}:{number}")
        if (name, number) in self.serving:
            self.serving.pop((name, number)).close()

    def activity(self, name: str, number: int) -> tuple[int, float]:
        return 0, self.used.get((name, number), 0.0)

    def versions(self, name: str = "m") -> list[int]:
        return sorted(number for owner, number in self.serving if owner == name)


def is_model(path: Path) -> bool:
    return path.suffix == ".fake" and path.is_file()


def write_version(base: Path, number: int | str, text: str = "1", name: str = "model.fake") -> Path:
    """A version folder with a fake model in it."""
    folder = base / str(number)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder


def make_repository(gate: Gate, published: Published, *models: ModelConfig, **options: Any) -> Repository:
    config = RepositoryConfig(models=models)
    return Repository(config, load=gate, is_model=is_model, publisher=published, **{"poll": 0.02, **options})


async def settled(repository: Repository, true: Any, what: str = "") -> None:
    """Wait until something is true of the repository."""
    give_up = time.monotonic() + PATIENCE
    while time.monotonic() < give_up:
        if true():
            return
        await asyncio.sleep(0.01)
    states = {name: [str(v.state) for v in m.versions.values()] for name, m in repository.models.items()}
    raise AssertionError(f"never became true: {what or true}: {states}")
