"""A version that takes requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

from tensorwire._tally import Tally
from tensorwire.servers.check import Check
from tensorwire.servers.job import failed
from tensorwire.servers.model import Model, RequestError, quoted
from tensorwire.servers.pagelock import PageLock
from tensorwire.servers.scheduling.workers import Workers

if TYPE_CHECKING:
    from tensorwire.servers.routing.mirror import Mirror

__all__ = ["Served", "listed"]

_MOST_LISTED = 20


class Served:
    """A model with its threads (``workers``: None when it runs inline) and the prepared checks of its signatures.

    ``direct`` answers requests on the spot (None: there are threads). ``tally`` counts its requests; ``mirror`` is
    where they are copied to (None: nowhere).
    """

    __slots__ = ("_checks", "_default", "_pages", "direct", "mirror", "model", "tally", "workers")

    def __init__(self, model: Model, max_queue: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.model = model
        self.tally = Tally()
        self.mirror: Mirror | None = None
        # A model in a process of its own copies requests into memory that it shares: CUDA is there, not here.
        self._pages = PageLock(model.device if model.memory is None else "cpu")
        self._checks = {name: Check(signature, exact=model.exact) for name, signature in model.signatures.items()}
        self._default = self._checks[model.default_signature]
        self.workers = (
            None if model.inline else Workers(model.concurrency, name=model.name, max_queue=max_queue, loop=loop)
        )
        self.direct = (
            None if self.workers else self._default.direct(model.run, partial(failed, model.name), self.tally)
        )

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        return self.workers.in_flight if self.workers is not None else 0

    def check(self, signature: str) -> Check:
        """The check of a signature by name (empty: the default). Raises RequestError 404."""
        if not signature:
            return self._default
        try:
            return self._checks[signature]
        except KeyError:
            here = listed(self._checks)
            raise RequestError(
                404, f"model {self.model.name!r} has no signature {quoted(signature)}: it has {here}"
            ) from None

    def end(self) -> None:
        """End the threads when they are free; the model is closed by whoever calls this."""
        if self.workers is not None:
            self.workers.close()
        self._pages.release()


def listed(names: Mapping[str, object]) -> str:
    """Names for a message, not more than fit on a line or two."""
    shown = ", ".join([quoted(name) for name in list(names)[:_MOST_LISTED]])
    more = f" and {len(names) - _MOST_LISTED} more" if len(names) > _MOST_LISTED else ""
    return f"{shown}{more}" if shown else "no models"
