"""What a peer is: two functions between named arrays and something that can be sent."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from bench.workload import Array


class Peer(ABC):
    """A way to put named arrays on a wire.

    ``yields`` says what ``encode`` makes: "bytes", a new bytes object (or bytearray) with a copy of the data
    in it; "block", such a copy in memory of another kind; or "buffers", a list that refers to the arrays' own
    memory and is sent with a vectored write.
    """

    yields: ClassVar[Literal["bytes", "block", "buffers"]] = "bytes"
    largest: ClassVar[int] = 2**31
    """Bytes of tensors above which one call would take many seconds."""
    slow: ClassVar[bool] = False
    """Takes seconds for 77 MB; a quick run leaves that out."""
    lacks: ClassVar[Mapping[str, str]] = {}
    """Workloads that the format has no way to express, and why."""

    @abstractmethod
    def encode(self, tensors: Mapping[str, Array]) -> Any: ...

    @abstractmethod
    def decode(self, data: Any) -> Mapping[str, Array] | Sequence[Array]:
        """The arrays by name, or in order where the format has no names."""

    def encode_strings(self, tensors: Mapping[str, Array]) -> Any:
        """The same for object arrays of bytes, where a format does that in another way."""
        return self.encode(tensors)

    def decode_strings(self, data: Any) -> Mapping[str, Array] | Sequence[Array]:
        return self.decode(data)

    def received(self, data: Any) -> Any:
        """What ``decode`` is given for what ``encode`` made, as if it had come over a wire."""
        return data

    def nbytes(self, data: Any) -> int:
        """Size of what ``encode`` made."""
        parts = data if isinstance(data, list | tuple) else [data]
        return sum(memoryview(part).nbytes for part in parts)
