"""One request on its way through a model: its limits, its run, and every failure as an error for the client."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from time import perf_counter
from uuid import uuid4

from tensorwire._messages import Request, Response
from tensorwire.servers.check import Check
from tensorwire.servers.deadline import deadline
from tensorwire.servers.model import Array, Model, ModelFailure, RequestError, failure_text, quoted

__all__ = ["Cancelled", "Expired", "Job", "Limit", "bare", "failed", "late", "run"]

_log = logging.getLogger("tensorwire.service")


class Expired(RequestError):
    """The deadline passed before the model was done."""


class Cancelled(RequestError):
    """The client went away before the model was run."""


class Limit:
    """The time that a request may take: ``ms`` after ``received``, by time.perf_counter(); 0 is any. ``name``: whose
    limit it is, in words.
    """

    __slots__ = ("ms", "name", "received")

    def __init__(self, request: Request, received: float, deadline_ms: int, timeout_ms: float) -> None:
        """``deadline_ms`` is a deadline beside the request's own, ``timeout_ms`` the server's; 0 is none."""
        ms: float = request.deadline_ms
        if deadline_ms and not 0 < ms < deadline_ms:
            ms = deadline_ms
        self.name = "deadline"
        if timeout_ms and not 0 < ms <= timeout_ms:
            ms, self.name = timeout_ms, "server's time limit"
        self.ms = ms
        self.received = received


class Job:
    """One checked request, ready to run in any thread. Raises RequestError when it does not fit."""

    __slots__ = (
        "_abandoned",
        "_asked",
        "_check",
        "_feeds",
        "_id",
        "_model",
        "limit",
    )

    def __init__(
        self,
        model: Model,
        check: Check,
        request: Request,
        limit: Limit,
        abandoned: Callable[[], bool] | None,
    ) -> None:
        self._model = model
        self._check = check
        self._feeds = check.feeds(request.inputs)
        self._asked = check.asked(request.outputs)
        self._id = request.id
        self._abandoned = abandoned
        self.limit = limit

    def seconds_left(self) -> float:
        """Until the deadline. Raises Expired when there are none."""
        limit = self.limit
        left = limit.received + limit.ms / 1e3 - perf_counter()
        if left <= 0:
            raise late(limit.ms, limit.name, limit.received, False)
        return left

    def __call__(self) -> Response | RequestError:
        """Run the model; returns every error as a RequestError."""
        try:
            if self._abandoned is not None and self._abandoned():
                raise Cancelled(499, "the client has gone away")
            if self.limit.ms:
                self.seconds_left()
        except RequestError as error:
            return bare(error)
        if not self.limit.ms:
            return run(self._model, self._check, self._feeds, self._asked, self._id)
        deadline.set(self.limit.received + self.limit.ms / 1e3)
        try:
            return run(self._model, self._check, self._feeds, self._asked, self._id)
        finally:
            deadline.set(0.0)


def run(
    model: Model, check: Check, feeds: Mapping[str, Array], asked: Sequence[str], request_id: str
) -> Response | RequestError:
    """Run a model on this thread; returns every error as a RequestError."""
    try:
        return Response(check.results(model.run(check.signature.name, feeds, asked), asked))
    except BaseException as error:  # a signal that ends the process is no exception here: see App.run
        return failed(model.name, error, request_id)


def failed(name: str, error: BaseException, request_id: str) -> RequestError:
    """What a client gets for what a model of that name has raised. What is not meant for it is logged, too."""
    if isinstance(error, RequestError):
        return bare(error)
    request_id = _plain(request_id) or uuid4().hex[:8]
    where = None if isinstance(error, ModelFailure) else error
    text = failure_text(error)
    _log.error("model %r failed (request %s): %s", name, request_id, text, exc_info=where)
    return RequestError(500, f"model {name!r} failed: {text} (request {request_id})")


def late(limit_ms: float, name: str, received: float, running: bool, why: str = "") -> Expired:
    """What a request gets whose limit has passed; ``received`` is its time.perf_counter()."""
    waited = (perf_counter() - received) * 1e3
    where = "while the model ran" if running else "before the model ran"
    return Expired(504, f"the {name} of {limit_ms:.0f} ms passed after {waited:.0f} ms, {where}{why}")


def _plain(text: str) -> str:
    """A client's id as it is when printable, else escaped: it must not be able to forge a line of a log."""
    return text if text.isprintable() and len(text) <= 80 else quoted(text)


def bare(error: RequestError) -> RequestError:
    """The error without where it came from: a traceback's frames would keep the request's arrays alive."""
    kind = type(error) if isinstance(error, Expired | Cancelled) else RequestError
    return kind(error.code, error.message)
