"""Room in memory: a limit on what all loaded models take, and who makes room when it is reached."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum
from typing import Protocol

from tensorwire.servers.repository.version import ModelVersion
from tensorwire.servers.resident import size_text

__all__ = ["Evict", "Resident", "Room"]

_log = logging.getLogger("tensorwire.repository")


class Evict(Enum):
    """Who may be made to leave: nobody, versions of other models, or any version."""

    NONE = 0
    OTHERS = 1
    ANY = 2


class Resident(Protocol):
    """A version in memory, as those see it who look for room."""

    @property
    def version(self) -> ModelVersion: ...
    @property
    def pinned(self) -> bool:
        """It must stay."""

    @property
    def busy(self) -> bool:
        """It has requests in flight."""

    @property
    def used(self) -> float:
        """time.perf_counter() of its last request, or of when it was loaded."""

    async def leave(self) -> None:
        """Finish what it has, and give its memory back; it is loaded again when it is asked for."""


class Room:
    """``limit``: bytes that models may take together (0: any number). ``on_demand``: when it is reached, the model that
    nobody has used for longest makes room, and comes back when it is asked for; otherwise what is new is refused.
    ``residents`` tells what is in memory. All methods run on the event loop's thread.
    """

    def __init__(self, limit: int, on_demand: bool, residents: Callable[[], Iterable[Resident]]) -> None:
        if on_demand and not limit:
            raise ValueError("models are loaded on demand when they may not take all memory: give a limit")
        self.limit = limit
        self.on_demand = on_demand
        self._residents = residents
        self._turn = asyncio.Lock()

    @property
    def used(self) -> int:
        """Bytes that the models in memory take."""
        return sum([resident.version.nbytes for resident in self._residents()])

    def turn(self) -> AbstractAsyncContextManager[object]:
        """Under a limit one model is loaded at a time: what it takes is measured, and counts for the next one."""
        return self._turn if self.limit else nullcontext()

    def fits(self, nbytes: int) -> bool:
        return not self.limit or self.used + nbytes <= self.limit

    async def make(self, nbytes: int, keep: ModelVersion, evict: Evict) -> str:
        """See to it that so many more bytes fit; returns why they do not, '' when they do. ``evict`` says who may be
        made to leave; ``keep`` never is. To be called in one's ``turn``.
        """
        while not self.fits(nbytes):
            used = self.used
            # Who alone is too large is told so before others have left in vain.
            leaving = self._next(keep, evict) if self.on_demand and nbytes <= self.limit else None
            if leaving is None:
                return (
                    f"no room: it takes about {size_text(nbytes)}, and {size_text(max(self.limit - used, 0))} of "
                    f"{size_text(self.limit)} for models (--model-memory) are free"
                )
            version = leaving.version
            _log.info(
                "model %r version %d makes room for %r: %s", version.name, version.number, keep.name, size_text(used)
            )
            await leaving.leave()
        return ""

    def _next(self, keep: ModelVersion, evict: Evict) -> Resident | None:
        """Who has not been used for longest; who has requests in flight is asked last, since that takes time."""
        if evict is Evict.NONE:
            return None
        free = [
            one
            for one in self._residents()
            if not one.pinned
            and one.version is not keep
            and one.version.nbytes
            and (evict is Evict.ANY or one.version.name != keep.name)
        ]
        return min(free, key=lambda one: (one.busy, one.used), default=None)
