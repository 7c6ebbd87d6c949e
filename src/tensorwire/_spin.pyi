"""Looking for an answer for a moment before sleeping until it comes."""

from typing import final

from tensorwire._memory import Chunk

@final
class Spin:
    def receive_into(self, fd: int, room: Chunk) -> int | None: ...
