"""ujson: nested lists of numbers, as JSON APIs of model servers take them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import ujson

from bench.peers.peer import Peer
from bench.workload import Array


class Ujson(Peer):
    slow = True

    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        text: bytes = ujson.dumps({name: array.tolist() for name, array in tensors.items()}).encode()
        return text

    def decode(self, data: Any) -> Mapping[str, Array]:
        return {name: np.array(values, np.float32) for name, values in ujson.loads(data).items()}

    # JSON has no bytes: strings go as text, and come back as text.
    def encode_strings(self, tensors: Mapping[str, Array]) -> bytes:
        lists = {name: [item.decode() for item in array] for name, array in tensors.items()}
        text: bytes = ujson.dumps(lists).encode()
        return text

    def decode_strings(self, data: Any) -> Mapping[str, Array]:
        return {name: np.array(values, object) for name, values in ujson.loads(data).items()}
