"""``python -m bench.repository.poll FOLDERS``: what one look at a base path with many versions costs.

Prints the seconds of processor time of eleven looks, in a process that does nothing else, as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from time import process_time

from bench.repository.serving import scratch
from tensorwire import TensorSpec
from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, Signature
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig
from tensorwire.servers.service import Service

_LOOKS = 11


class Nothing(Model):
    """Takes anything."""

    signatures = {DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, (TensorSpec("x"),), ())}  # noqa: RUF012

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        return {}


def load(path: Path, config: ModelConfig) -> Model:
    return Nothing()


async def looks(base: Path) -> list[float]:
    config = ModelConfig(name="m", path=str(base), settle=0, warm_up=False)
    service = Service(config=RepositoryConfig(models=(config,)), load=load, poll=0)
    assert service.repository is not None
    service.start()
    await service.repository.settled()
    found = []
    for _ in range(_LOOKS):
        began = process_time()
        await service.repository.models["m"].reconcile()
        found.append(process_time() - began)
    if not service.ready:
        raise RuntimeError("no version was found")
    await service.stop()
    return found


def main() -> None:
    with scratch() as base:
        for number in range(1, int(sys.argv[1]) + 1):
            (base / str(number)).mkdir()
            (base / str(number) / "model.onnx").touch()
        print(json.dumps(asyncio.run(looks(base))), flush=True)


if __name__ == "__main__":
    main()
