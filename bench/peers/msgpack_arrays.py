"""msgpack-numpy: arrays as maps of type, shape and raw bytes; object arrays fall back to pickle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import msgpack_numpy

from bench.peers.peer import Peer
from bench.workload import Array


class MsgpackNumpy(Peer):
    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        packed: bytes = msgpack.packb(tensors, default=msgpack_numpy.encode)
        return packed

    def decode(self, data: Any) -> Mapping[str, Array]:
        found: Mapping[str, Array] = msgpack.unpackb(data, object_hook=msgpack_numpy.decode)
        return found
