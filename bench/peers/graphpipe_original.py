"""The original ``graphpipe`` package's codec (PyPI, 1.0.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graphpipe import convert

from bench.peers.peer import Peer
from bench.workload import Array


class GraphPipe(Peer):
    def encode(self, tensors: Mapping[str, Array]) -> Any:
        return convert.serialize_infer_request(convert.InferReq("", list(tensors.values()), list(tensors)))

    def decode(self, data: Any) -> Mapping[str, Array]:
        request = convert.deserialize_request(data)
        names = [name.decode() for name in request.input_names]
        return dict(zip(names, request.input_tensors, strict=True))
