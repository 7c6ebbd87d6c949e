"""What has come of a request's body and waits to be read by the app."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tensorwire._budget import Budget

__all__ = ["Arrived", "counted"]

_KEY = "tensorwire.arrived"


class Arrived:
    """``nbytes`` in the hands of the HTTP protocol. They count in ``budget`` from the first on, room or not, unless its
    reader counts the whole body in advance (``covered``).
    """

    __slots__ = ("_budget", "covered", "nbytes")

    def __init__(self, budget: Budget) -> None:
        self.nbytes = 0
        self._budget = budget
        self.covered = False

    @staticmethod
    def of(scope: Scope) -> Arrived | None:
        """That of a request, once it has ``begun``."""
        found: Arrived | None = scope.get(_KEY)
        return found

    def begin(self, scope: Scope) -> None:
        """The request of this scope is the one."""
        scope[_KEY] = self

    def add(self, nbytes: int) -> None:
        if not self.covered:
            self._budget.add(nbytes)
            self.nbytes += nbytes

    def take(self, nbytes: int) -> None:
        """So many have been read, or are given up: they are the reader's to count."""
        nbytes = min(nbytes, self.nbytes)
        if nbytes:
            self.nbytes -= nbytes
            self._budget.give(nbytes)

    def cover(self) -> None:
        """The reader counts the whole body in advance."""
        self.covered = True
        self.take(self.nbytes)

    def uncover(self, nbytes: int) -> None:
        """It could not; so many are here."""
        self.covered = False
        self.add(nbytes)


def counted(app: ASGIApp) -> ASGIApp:
    """``app``, with what it reads of a body no longer counted as waiting."""

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        arrived = Arrived.of(scope)
        if arrived is None:
            await app(scope, receive, send)
            return

        async def receive_counted() -> Message:
            message = await receive()
            arrived.take(len(message.get("body", b"")))
            return message

        await app(scope, receive_counted, send)

    return run
