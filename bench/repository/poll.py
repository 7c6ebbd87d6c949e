"""``python -m bench.repository.poll FOLDERS LATEST``: what one look at a base path with many versions costs.

LATEST of the versions are wanted (0: all), and loaded first. Prints the seconds of processor time of eleven looks, in a
process that does nothing else, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from time import process_time

from bench.repository.serving import scratch
from tensorwire import TensorSpec
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, Signature
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.repository import Repository

_LOOKS = 11
_REST = 2.5  # seconds after which files that were just written have come to rest


class Nothing(Model):
    """Takes anything."""

    signatures = {DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, (TensorSpec("x"),), ())}  # noqa: RUF012

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        return {}


class Nobody:
    """Asks nothing of what is loaded: thousands of versions that serve would be as many threads."""

    def publish(self, name: str, number: int, model: Model) -> None:
        pass

    def retire(self, name: str, number: int) -> Awaitable[None]:
        return asyncio.sleep(0)

    rest = retire

    def activity(self, name: str, number: int) -> tuple[int, float]:
        return 0, 0.0


def load(path: Path, config: ModelConfig) -> Model:
    return Nothing()


async def looks(base: Path, policy: VersionPolicy) -> list[float]:
    config = ModelConfig(name="m", path=str(base), policy=policy, settle=0, warm_up=False)
    repository = Repository(
        RepositoryConfig(models=(config,)),
        load=load,
        is_model=lambda path: path.suffix == ".onnx",
        publisher=Nobody(),
        poll=0,
    )
    repository.start()
    await repository.settled()
    time.sleep(_REST)
    found = []
    for _ in range(_LOOKS):
        began = process_time()
        await repository.models["m"].reconcile()
        found.append(process_time() - began)
    if not repository.ready:
        raise RuntimeError("no version was found")
    await repository.close()
    return found


def main() -> None:
    with scratch() as base:
        for number in range(1, int(sys.argv[1]) + 1):
            (base / str(number)).mkdir()
            (base / str(number) / "model.onnx").touch()
        print(json.dumps(asyncio.run(looks(base, VersionPolicy(int(sys.argv[2]))))), flush=True)


if __name__ == "__main__":
    main()
