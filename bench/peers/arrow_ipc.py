"""Arrow IPC: each tensor a Tensor message of one stream; strings, which those have not, as a record batch.

Tensor messages have no names, so the arrays come back in order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from pyarrow import ipc

from bench.peers.peer import Peer
from bench.workload import Array


class ArrowTensor(Peer):
    yields = "block"

    def encode(self, tensors: Mapping[str, Array]) -> Any:
        sink = pa.BufferOutputStream()
        for array in tensors.values():
            ipc.write_tensor(pa.Tensor.from_numpy(array), sink)
        return sink.getvalue()

    def decode(self, data: Any) -> Sequence[Array]:
        source = pa.BufferReader(data)
        size = len(data)
        found = []
        while source.tell() < size:
            found.append(ipc.read_tensor(source).to_numpy())
        return found

    def encode_strings(self, tensors: Mapping[str, Array]) -> Any:
        sink = pa.BufferOutputStream()
        columns = [pa.array(array, pa.binary()) for array in tensors.values()]
        batch = pa.record_batch(columns, names=list(tensors))
        with ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        return sink.getvalue()

    def decode_strings(self, data: Any) -> Sequence[Array]:
        with ipc.open_stream(pa.BufferReader(data)) as reader:
            return [column.to_numpy(zero_copy_only=False) for column in reader.read_next_batch()]
