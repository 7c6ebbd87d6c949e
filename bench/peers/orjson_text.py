"""orjson, which writes arrays by itself (OPT_SERIALIZE_NUMPY) but reads lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson

from bench.peers.peer import Peer
from bench.workload import Array


class Orjson(Peer):
    slow = True

    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        return orjson.dumps(dict(tensors), option=orjson.OPT_SERIALIZE_NUMPY)

    def decode(self, data: Any) -> Mapping[str, Array]:
        return {name: np.array(values, np.float32) for name, values in orjson.loads(data).items()}

    # JSON has no bytes: strings go as text, and come back as text.
    def encode_strings(self, tensors: Mapping[str, Array]) -> bytes:
        return orjson.dumps({name: [item.decode() for item in array] for name, array in tensors.items()})

    def decode_strings(self, data: Any) -> Mapping[str, Array]:
        return {name: np.array(values, object) for name, values in orjson.loads(data).items()}
