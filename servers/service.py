"""The one thing every front calls: run a model by name, say what it is, count, and stop in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

from tensorwire._messages import Metadata, Request, Response
from tensorwire._version import __version__
from tensorwire.servers.check import Check, ResultError
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import Array, Model, RequestError, quoted
from tensorwire.servers.repository import local
from tensorwire.servers.scheduling.workers import Workers

__all__ = ["SERVER", "Service", "open_model"]

SERVER = f"tensorwire/{__version__}"

Done = Callable[[Response | RequestError], None]

_log = logging.getLogger("tensorwire.service")

_LONGEST_REASON = 500


def open_model(
    path: str | Path | None = None, *, engine: str | None = None, options: Mapping[str, Any] | None = None
) -> Model:
    """Load the model that the user named, or the embedded one for None; its name is the file's stem.

    Raises ModelError.
    """
    return local.open_model(path, partial(load_model, engine=engine, options=options))


class Service:
    """Models by name, each with its own threads. All methods run on one event loop's thread and never block.

    ``default`` is the model for requests that name none (None: the first). ``loop`` is where results are
    delivered (None: the running one). ``max_queue``: how many requests may wait per model before more are
    refused with 503. ``request_timeout``: seconds after which a request is answered with 504 whatever its own
    deadline (None: no such limit). ``requests`` and ``failures`` count calls and those of them that ended in a
    RequestError; of these, ``expired`` whose deadline had passed and ``cancelled`` whose client had gone away
    before the model was run.
    """

    def __init__(
        self,
        models: Sequence[Model],
        *,
        default: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        max_queue: int = 1024,
        request_timeout: float | None = None,
    ) -> None:
        if request_timeout is not None and not request_timeout > 0:
            raise ValueError(f"request_timeout must be above 0 seconds, is {request_timeout:g}")
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise ValueError(f"two models have the same name: {', '.join(names)}")
        if default is not None and default not in names:
            raise ValueError(f"the default model {default!r} is not among {', '.join(names) or 'none'}")
        self.default = default if default is not None else names[0] if names else ""
        self.requests = 0
        self.failures = 0
        self.expired = 0
        self.cancelled = 0
        self._served = {model.name: _Served(model, max_queue, loop) for model in models}
        self._timeout_ms = 0.0 if request_timeout is None else request_timeout * 1e3
        self._draining = False
        self._closed = False

    @property
    def models(self) -> tuple[Model, ...]:
        return tuple([served.model for served in self._served.values()])

    @property
    def model_names(self) -> tuple[str, ...]:
        return tuple(self._served)

    @property
    def ready(self) -> bool:
        """Requests are welcome: there is a model, and nobody has asked to stop."""
        return bool(self._served) and not self._draining and not self._closed

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        return sum([served.workers.in_flight for served in self._served.values() if served.workers])

    @property
    def overdue(self) -> int:
        """Threads that still run a model for a request whose deadline has passed."""
        return sum([served.workers.overdue for served in self._served.values() if served.workers])

    def submit(
        self,
        request: Request,
        done: Done,
        *,
        received: float = 0.0,
        deadline_ms: int = 0,
        abandoned: Callable[[], bool] | None = None,
    ) -> None:
        """Run a request and call ``done`` once with its result; at once for inline models and bad requests.

        ``deadline_ms`` is a deadline beside the request's own, of which the earlier counts (0: none);
        ``received`` is the time.perf_counter() from which both count (0: now). ``abandoned`` is asked on the
        thread that would run the model, just before: when it says True, nothing is run.

        A deadline that passes while the request waits or runs is answered then, with 504; one that runs at once,
        inline, ends first. Neither the service nor a thread refers to the request's arrays once ``done`` has
        returned, unless the model still runs with them; the result's arrays may be views of them. Raises nothing
        of its own.
        """
        self.requests += 1
        result: Response | RequestError
        try:
            served = self._pick(request)
            check = served.check(request.signature)
            if served.workers is None:
                abandoned = None  # it runs at once
                if not (deadline_ms or request.deadline_ms or self._timeout_ms):
                    feeds = check.feeds(request.inputs)
                    self._deliver(done, _run(served.model, check, feeds, check.asked(request.outputs), request.id))
                    return
            job = _Job(served.model, check, request, received, deadline_ms, abandoned, self._timeout_ms)
            if served.workers is not None:
                if job.limit_ms:
                    late = partial(_late, job.limit_ms, job.limit_name, job.received)
                    served.workers.submit(
                        job, (), partial(self._deliver, done), seconds=job.seconds_left(), late=late
                    )
                else:
                    served.workers.submit(job, (), partial(self._deliver, done))
                return
            result = job()
        except RequestError as error:
            result = _bare(error)
        self._deliver(done, result)

    async def infer(
        self,
        request: Request,
        *,
        received: float = 0.0,
        deadline_ms: int = 0,
        abandoned: Callable[[], bool] | None = None,
    ) -> Response:
        """Run a request and wait for its result; arguments as for ``submit``. Raises RequestError."""
        future: asyncio.Future[Response | RequestError] = asyncio.get_running_loop().create_future()

        def done(result: Response | RequestError) -> None:
            if not future.done():
                future.set_result(result)

        self.submit(request, done, received=received, deadline_ms=deadline_ms, abandoned=abandoned)
        result = await future
        if isinstance(result, RequestError):
            try:
                raise result
            finally:
                # The error's traceback refers to this frame, and this frame would to the error: a cycle, which keeps
                # the request's arrays until a collection.
                del result, future
        return result

    def metadata(self, model: str = "", signature: str = "") -> Metadata:
        """What a model is and takes; empty names mean the default ones. Raises RequestError 404."""
        served = self._find(model)
        specs = served.check(signature).signature
        of = served.model
        return Metadata(of.name, of.version, SERVER, of.description, specs.inputs, specs.outputs)

    async def drain(self, timeout: float | None = None) -> bool:
        """Stop being ready, wait at most ``timeout`` seconds for the requests in flight; True when none is
        left.

        Requests that were still arriving are answered meanwhile; afterwards all are refused with 503.
        """
        self._draining = True
        waiting = [served.workers.drain(timeout) for served in self._served.values() if served.workers]
        await asyncio.gather(*waiting)
        self._closed = True
        return not self.in_flight

    def close(self) -> None:
        """Refuse requests, end the threads once they are free, close the models. Can be called twice."""
        self._closed = True
        for served in self._served.values():
            if served.workers is not None:
                served.workers.close()
            served.model.close()

    def _find(self, name: str) -> _Served:
        served = self._served.get(name or self.default)
        if served is None:
            here = ", ".join([repr(name) for name in self._served]) or "no models"
            raise RequestError(404, f"unknown model {quoted(name)}: this server has {here}")
        return served

    def _pick(self, request: Request) -> _Served:
        if self._closed:
            raise RequestError(503, "shutting down")
        served = self._find(request.model)
        model = served.model
        if request.version and str(request.version) != model.version:
            raise RequestError(404, f"model {model.name!r} has no version {request.version}: it has {model.version}")
        if request.label:
            raise RequestError(404, f"model {model.name!r} has no version with the label {quoted(request.label)}")
        return served

    def _deliver(self, done: Done, result: Response | RequestError | BaseException) -> None:
        if not isinstance(result, Response):
            self.failures += 1
            if not isinstance(result, RequestError):
                result = RequestError(500, f"the model ended its thread: {result!r}")
            elif isinstance(result, _Expired):
                self.expired += 1
            elif isinstance(result, _Cancelled):
                self.cancelled += 1
        done(result)


class _Served:
    """A model with its threads (None when it runs inline) and the prepared checks of its signatures."""

    __slots__ = ("_checks", "_default", "model", "workers")

    def __init__(self, model: Model, max_queue: int, loop: asyncio.AbstractEventLoop | None) -> None:
        self.model = model
        self._checks = {name: Check(signature, exact=model.exact) for name, signature in model.signatures.items()}
        self._default = self._checks[model.default_signature]
        self.workers = (
            None if model.inline else Workers(model.concurrency, name=model.name, max_queue=max_queue, loop=loop)
        )

    def check(self, signature: str) -> Check:
        """The check of a signature by name (empty: the default). Raises RequestError 404."""
        if not signature:
            return self._default
        try:
            return self._checks[signature]
        except KeyError:
            here = ", ".join([repr(name) for name in self._checks])
            raise RequestError(
                404, f"model {self.model.name!r} has no signature {quoted(signature)}: it has {here}"
            ) from None


class _Expired(RequestError):
    """The deadline passed before the model was done."""


class _Cancelled(RequestError):
    """The client went away before the model was run."""


class _Job:
    """One checked request, ready to run in any thread. Raises RequestError when it does not fit."""

    __slots__ = (
        "_abandoned",
        "_asked",
        "_check",
        "_feeds",
        "_id",
        "_model",
        "limit_ms",
        "limit_name",
        "received",
    )

    def __init__(
        self,
        model: Model,
        check: Check,
        request: Request,
        received: float,
        deadline_ms: int,
        abandoned: Callable[[], bool] | None,
        timeout_ms: float,
    ) -> None:
        self._model = model
        self._check = check
        self._feeds = check.feeds(request.inputs)
        self._asked = check.asked(request.outputs)
        self._id = request.id
        self._abandoned = abandoned
        limit: float = request.deadline_ms
        if deadline_ms and not 0 < limit < deadline_ms:
            limit = deadline_ms
        self.limit_name = "deadline"
        if timeout_ms and not 0 < limit <= timeout_ms:
            limit, self.limit_name = timeout_ms, "server's time limit"
        self.limit_ms = limit
        self.received = received
        if limit and not received:
            self.received = perf_counter()

    def seconds_left(self) -> float:
        """Until the deadline. Raises _Expired when there are none."""
        left = self.received + self.limit_ms / 1e3 - perf_counter()
        if left <= 0:
            raise _late(self.limit_ms, self.limit_name, self.received, False)
        return left

    def __call__(self) -> Response | RequestError:
        """Run the model; returns every error as a RequestError."""
        try:
            if self._abandoned is not None and self._abandoned():
                raise _Cancelled(499, "the client has gone away")
            if self.limit_ms:
                self.seconds_left()
        except RequestError as error:
            return _bare(error)
        return _run(self._model, self._check, self._feeds, self._asked, self._id)


def _run(
    model: Model, check: Check, feeds: Mapping[str, Array], asked: Sequence[str], request_id: str
) -> Response | RequestError:
    """Run a model on this thread; returns every error as a RequestError."""
    try:
        return Response(check.results(model.run(check.signature.name, feeds, asked), asked))
    except RequestError as error:
        return _bare(error)
    except BaseException as error:  # a signal that ends the process is no exception here: see App.run
        return _failed(model.name, request_id, error)


def _failed(name: str, request_id: str, error: BaseException) -> RequestError:
    request_id = _plain(request_id) or uuid4().hex[:8]
    where = None if isinstance(error, ResultError) else error
    _log.error("model %r failed (request %s): %s", name, request_id, error, exc_info=where)
    reason = " ".join(str(error).split())
    if len(reason) > _LONGEST_REASON:
        reason = reason[:_LONGEST_REASON] + "..."
    kind = type(error).__name__
    text = reason if isinstance(error, ResultError) else f"{kind}: {reason}" if reason else kind
    return RequestError(500, f"model {name!r} failed: {text} (request {request_id})")


def _late(limit_ms: float, name: str, received: float, running: bool, why: str = "") -> _Expired:
    waited = (perf_counter() - received) * 1e3
    where = "while the model ran" if running else "before the model ran"
    return _Expired(504, f"the {name} of {limit_ms:.0f} ms passed after {waited:.0f} ms, {where}{why}")


def _plain(text: str) -> str:
    """A client's id as it is when printable, else escaped: it must not be able to forge a line of a log."""
    return text if text.isprintable() and len(text) <= 80 else quoted(text)


def _bare(error: RequestError) -> RequestError:
    """The error without where it came from: a traceback's frames would keep the request's arrays alive."""
    kind = type(error) if isinstance(error, _Expired | _Cancelled) else RequestError
    return kind(error.code, error.message)
