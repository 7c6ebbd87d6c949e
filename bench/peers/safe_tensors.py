"""safetensors: the file format, saved to and loaded from bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from safetensors.numpy import load, save

from bench.peers.peer import Peer
from bench.workload import STRINGS, Array


class SafeTensors(Peer):
    lacks = {STRINGS: "no string tensors"}  # noqa: RUF012

    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        return save(dict(tensors))

    def decode(self, data: Any) -> Mapping[str, Array]:
        return load(data)
