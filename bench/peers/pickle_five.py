"""pickle protocol 5: data in the stream, or beside it in buffers of its own (PEP 574).

Not for peers that one does not trust: loading a pickle can run any code.
"""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import Any

from bench.peers.peer import Peer
from bench.workload import Array


class InBand(Peer):
    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        return pickle.dumps(tensors, 5)

    def decode(self, data: Any) -> Mapping[str, Array]:
        found: Mapping[str, Array] = pickle.loads(data)
        return found


class OutOfBand(Peer):
    yields = "buffers"

    def encode(self, tensors: Mapping[str, Array]) -> list[Any]:
        buffers: list[Any] = []
        return [pickle.dumps(tensors, 5, buffer_callback=buffers.append), *buffers]

    def received(self, data: Any) -> Any:
        return [bytes(part) for part in data]

    def decode(self, data: Any) -> Mapping[str, Array]:
        found: Mapping[str, Array] = pickle.loads(data[0], buffers=data[1:])
        return found
