"""tensorwire, by its three ways out; the way in is the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bench.peers.peer import Peer
from bench.workload import Array
from tensorwire import Chunk, Frame, Request, decode, encode


class Buffers(Peer):
    """``encode``: header bytes and views of the arrays."""

    yields = "buffers"

    def encode(self, tensors: Mapping[str, Array]) -> Frame:
        return encode(Request(tensors))

    def decode(self, data: Any) -> Mapping[str, Array]:
        return decode(data, Request).inputs

    def received(self, data: Any) -> Any:
        return bytes(data)

    def nbytes(self, data: Any) -> int:
        return len(data)


class Bytes(Peer):
    """``bytes(encode(...))``: one new bytes object."""

    def encode(self, tensors: Mapping[str, Array]) -> bytes:
        return bytes(encode(Request(tensors)))

    def decode(self, data: Any) -> Mapping[str, Array]:
        return decode(data, Request).inputs


class Pooled(Bytes):
    """``write_into`` a new Chunk: one block, of memory that the library keeps warm."""

    yields = "block"

    def encode(self, tensors: Mapping[str, Array]) -> Any:
        frame = encode(Request(tensors))
        chunk = Chunk(frame.nbytes)
        frame.write_into(chunk)
        return chunk
