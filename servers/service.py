"""The one thing every front calls: run a model by name, say what it is, count, and stop in good order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter

from tensorwire._messages import Metadata, Request, Response
from tensorwire._version import __version__
from tensorwire.servers.demand import Demand
from tensorwire.servers.engines.registry import is_model
from tensorwire.servers.job import Cancelled, Expired, Job, Limit, bare, late
from tensorwire.servers.model import Model, RequestError
from tensorwire.servers.repository.config import RepositoryConfig
from tensorwire.servers.repository.loading import Load
from tensorwire.servers.repository.local import load_version
from tensorwire.servers.repository.repository import Repository
from tensorwire.servers.resident import trim_heap
from tensorwire.servers.routing.servables import Asleep, Servables
from tensorwire.servers.routing.served import Served
from tensorwire.servers.routing.target import ANY, Target
from tensorwire.servers.status import ModelStatus, model_status, why_unavailable

__all__ = ["SERVER", "Service"]

SERVER = f"tensorwire/{__version__}"

Done = Callable[[Response | RequestError], None]

_log = logging.getLogger("tensorwire.service")


class Service:
    """Models by name, each with its own threads. All methods run on one event loop's thread and never block.

    ``default`` is the model for requests that name none (None: the first). ``loop`` is where results are
    delivered (None: the running one). ``max_queue``: how many requests may wait per model before more are
    refused with 503. ``request_timeout``: seconds after which a request is answered with 504 whatever its own
    deadline (None: no such limit). ``config``: models to load from disk, and to keep in line with it, from ``start``
    on; ``load``: how (None: by load_version); ``poll`` and ``watch``: when it is looked at, see Repository;
    ``memory`` and ``on_demand``: bytes that these models may take together, and what becomes of others: see Room.
    ``cache``: the folder for those from URLs (None: the user's).
    ``requests`` and ``failures`` count calls and those of them that ended in a RequestError; of these, ``expired``
    whose deadline had passed and ``cancelled`` whose client had gone away before the model was run.
    ``problem``: why the configuration is not what its file says, '' when it is.
    ``direct`` answers on the spot what an inline model can, which is nearly all that is for one; the rest is for
    ``submit``.
    """

    def __init__(
        self,
        models: Sequence[Model] = (),
        *,
        default: str | None = None,
        loop: asyncio.AbstractEventLoop | None = None,
        max_queue: int = 1024,
        request_timeout: float | None = None,
        config: RepositoryConfig | None = None,
        load: Load | None = None,
        poll: float = 1.0,
        watch: bool = True,
        memory: int = 0,
        on_demand: bool = False,
        cache: Path | None = None,
    ) -> None:
        if request_timeout is not None and not request_timeout > 0:
            raise ValueError(f"request_timeout must be above 0 seconds, is {request_timeout:g}")
        names = [model.name for model in models]
        if len(set(names)) != len(names):
            raise ValueError(f"two models have the same name: {', '.join(names)}")
        if default is not None and default not in names:
            raise ValueError(f"the default model {default!r} is not among {', '.join(names) or 'none'}")
        self._servables = Servables(default or "", self._why if config is not None else None)
        self._max_queue = max_queue
        self._loop = loop
        for model in models:
            self._servables.publish(model.name, _number(model), Served(model, max_queue, loop))
        self._finishing: set[Served] = set()
        self.repository: Repository | None = None
        self._demand: Demand | None = None
        if config is not None:
            self.repository = Repository(
                config,
                load=load or load_version,
                is_model=is_model,
                publisher=self,
                poll=poll,
                watch=watch,
                memory=memory,
                on_demand=on_demand,
                cache=cache,
            )
            self._demand = Demand(self.repository, max_queue)
            self._know(config)
        self._tasks: set[asyncio.Task[None]] = set()  # kept: a loop refers to its tasks weakly
        self._requests = 0
        self._failures = 0
        self.expired = 0
        self.cancelled = 0
        self.problem = ""
        self._timeout_ms = 0.0 if request_timeout is None else request_timeout * 1e3
        self._draining = False
        self._closed = False
        self.direct = self._servables.direct
        self.direct.open = request_timeout is None

    @property
    def default(self) -> str:
        """The model of requests that name none; '' while there is no model."""
        return self._servables.default

    @property
    def models(self) -> tuple[Model, ...]:
        """Every version that serves."""
        return tuple([served.model for served in self._servables])

    @property
    def model_names(self) -> tuple[str, ...]:
        """Every model that is known, whether a version of it serves yet or not."""
        return self._servables.names

    @property
    def ready(self) -> bool:
        """Requests are welcome: every configured model has a version that serves, all are ready, and nobody has asked
        to stop.
        """
        if self._draining or self._closed or not all(model.ready for model in self.models):
            return False
        return self.repository.ready if self.repository is not None else bool(self.models)

    @property
    def requests(self) -> int:
        return self._requests + self.direct.requests

    @property
    def failures(self) -> int:
        return self._failures + self.direct.failures

    @property
    def in_flight(self) -> int:
        """Requests taken and not answered yet."""
        waiting = self._demand.waiting if self._demand is not None else 0
        return waiting + sum([served.in_flight for served in self._all])

    @property
    def overdue(self) -> int:
        """Threads that still run a model for a request whose deadline has passed."""
        return sum([served.workers.overdue for served in self._all if served.workers])

    @property
    def _all(self) -> list[Served]:
        return [*self._servables, *self._finishing]

    def submit(
        self,
        request: Request,
        done: Done,
        *,
        received: float = 0.0,
        deadline_ms: int = 0,
        abandoned: Callable[[], bool] | None = None,
        target: Target | None = None,
    ) -> None:
        """Run a request and call ``done`` once with its result; at once for inline models and bad requests.

        ``deadline_ms`` is a deadline beside the request's own, of which the earlier counts (0: none);
        ``received`` is the time.perf_counter() from which both count (0: now). ``abandoned`` is asked on the
        thread that would run the model, just before: when it says True, nothing is run. ``target`` is what a URL says
        beside the request of the model, version, label and signature that is meant; they must not contradict.

        A deadline that passes while the request waits or runs is answered then, with 504; one that runs at once,
        inline, ends first. Neither the service nor a thread refers to the request's arrays once ``done`` has
        returned, unless the model still runs with them; the result's arrays may be views of them. Raises nothing
        of its own.
        """
        self._requests += 1
        began = received or perf_counter()
        served: Served | None = None
        result: Response | RequestError
        try:
            if self._closed:
                raise RequestError(503, "shutting down")
            meant = Target.of(request) if target is None else target.joined(request)
            served = self._servables.pick(meant.model, meant.version, meant.label, request.id)
            check = served.check(meant.signature)
            if served.mirror is not None:
                done = served.mirror.follow(request, meant.signature, done)
            if served.workers is None:
                abandoned = None  # it runs at once
            limit = Limit(request, began, deadline_ms, self._timeout_ms)
            job = Job(served.model, check, request, limit, abandoned)
            if served.workers is not None:
                deliver = partial(self._deliver, served, began, done)
                if limit.ms:
                    on_late = partial(late, limit.ms, limit.name, began)
                    served.workers.submit(job, (), deliver, seconds=job.seconds_left(), late=on_late)
                else:
                    served.workers.submit(job, (), deliver)
                return
            result = job()
        except Asleep as asleep:
            again = partial(self._again, request, done, began, deadline_ms, abandoned, target)
            self._wake(asleep, Limit(request, began, deadline_ms, self._timeout_ms), again, began, done)
            return
        except RequestError as error:
            result = bare(error)
        self._deliver(served, began, done, result)

    def _wake(self, asleep: Asleep, limit: Limit, again: Callable[[], None], began: float, done: Done) -> None:
        """Have a version loaded, and then go on with the request that asks for it."""
        assert self._demand is not None, "only a repository's versions are asleep"
        fail = partial(self._deliver, None, began, done)
        try:
            self._demand.wait(asleep, limit, again, fail)
        except RequestError as error:
            fail(bare(error))

    def _again(
        self,
        request: Request,
        done: Done,
        began: float,
        deadline_ms: int,
        abandoned: Callable[[], bool] | None,
        target: Target | None,
    ) -> None:
        self._requests -= 1  # it is counted already
        self.submit(request, done, received=began, deadline_ms=deadline_ms, abandoned=abandoned, target=target)

    async def infer(
        self,
        request: Request,
        *,
        received: float = 0.0,
        deadline_ms: int = 0,
        abandoned: Callable[[], bool] | None = None,
        target: Target | None = None,
    ) -> Response:
        """Run a request and wait for its result; arguments as for ``submit``. Raises RequestError."""
        future: asyncio.Future[Response | RequestError] = asyncio.get_running_loop().create_future()

        def done(result: Response | RequestError) -> None:
            if not future.done():
                future.set_result(result)

        self.submit(request, done, received=received, deadline_ms=deadline_ms, abandoned=abandoned, target=target)
        result = await future
        if isinstance(result, RequestError):
            try:
                raise result
            finally:
                # The error's traceback refers to this frame, and this frame would to the error: a cycle, which keeps
                # the request's arrays until a collection.
                del result, future
        return result

    def metadata(self, target: Target = ANY) -> Metadata:
        """What a model is and takes. Raises RequestError 404 for what is not there, 503 for what is not there yet."""
        served = self._servables.pick(target.model, target.version, target.label)
        specs = served.check(target.signature).signature
        of = served.model
        return Metadata(of.name, of.version, SERVER, of.description, specs.inputs, specs.outputs)

    def status(self, name: str | None = None) -> list[ModelStatus]:
        """What became of every model, or of one ('': the default). Raises RequestError 404 for an unknown one."""
        names = self.model_names if name is None else (self._servables.resolve(name),)
        managed = self.repository.models if self.repository is not None else {}
        finishing = list(self._finishing)
        return [model_status(name, self._servables, managed.get(name), finishing) for name in names]

    def _why(self, name: str, number: int | None) -> str:
        return why_unavailable(self.status(name)[0], number)

    def start(self) -> None:
        """Begin to load what is configured; on the loop's thread, once."""
        if self.repository is not None:
            self.repository.start()

    async def configure(self, config: RepositoryConfig) -> None:
        """Serve what another configuration says, while requests run; see ``Repository.apply``.

        The configuration counts from the call on, whatever else is still under way because of an earlier one.
        """
        assert self.repository is not None, "this service has no repository"
        self._know(config)
        await self.repository.apply(config, self._servables.forget)

    def _know(self, config: RepositoryConfig) -> None:
        for model in config.models:
            self._servables.rule(model.name, model.labels, model.traffic, model.shadow)
        if config.models:
            self._servables.default = config.default or config.models[0].name

    def publish(self, name: str, number: int, model: Model) -> None:
        """Send requests to a version of a model from now on.

        A model that was there under the same number finishes what it has, and is closed.
        """
        before = self._servables.publish(name, number, Served(model, self._max_queue, self._loop))
        if before is not None:
            task = asyncio.ensure_future(self._finish(before))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        if self._demand is not None:
            self._demand.published(name, number)

    def activity(self, name: str, number: int) -> tuple[int, float]:
        """Requests that a version has in flight, and time.perf_counter() of its last answer (0: none yet)."""
        served = self._servables.versions(name).get(number)
        return (0, 0.0) if served is None else (served.in_flight, served.tally.last)

    def retire(self, name: str, number: int) -> Awaitable[None]:
        """Send a version no more requests; what is returned ends when it has answered those that it had, and is
        closed.
        """
        return self._finish(self._servables.withdraw(name, number))

    def rest(self, name: str, number: int) -> Awaitable[None]:
        """As ``retire``, but the next request for the version has it loaded again."""
        return self._make_room(self._servables.rest(name, number))

    async def _make_room(self, served: Served | None) -> None:
        await self._finish(served)
        if served is not None and served.model.memory is None:
            await asyncio.to_thread(trim_heap)

    def _shut(self) -> None:
        self._closed = True
        self.direct.open = False

    async def drain(self, timeout: float | None = None) -> bool:
        """Stop being ready, wait at most ``timeout`` seconds for the requests in flight; True when none is
        left.

        Requests that were still arriving are answered meanwhile; afterwards all are refused with 503.
        """
        self._draining = True
        waiting = [served.workers.drain(timeout) for served in self._all if served.workers]
        await asyncio.gather(*waiting)
        self._shut()
        return not self.in_flight

    async def stop(self) -> None:
        """Stop looking for models, and close: nothing is loaded or unloaded afterwards."""
        self._shut()
        if self._demand is not None:
            self._demand.close()
        if self.repository is not None:
            await self.repository.close()
        self.close()

    def close(self) -> None:
        """Refuse requests, end the threads once they are free, close the models. Can be called twice."""
        self._shut()
        for served in self._all:
            served.end()
            served.model.close()

    async def _finish(self, served: Served | None) -> None:
        """Answer what a version has still got, then let go of it. Requests that it runs keep it alive meanwhile."""
        if served is None:
            return
        self._finishing.add(served)
        try:
            if served.workers is not None and not self._closed:
                await served.workers.drain()
            served.end()
            await asyncio.to_thread(served.model.close)
        except Exception:
            _log.exception("model %r could not be closed", served.model.name)
        finally:
            self._finishing.discard(served)

    def _deliver(
        self, served: Served | None, began: float, done: Done, result: Response | RequestError | BaseException
    ) -> None:
        failed = not isinstance(result, Response)
        if served is not None:
            served.tally.add(began, perf_counter(), failed)
        if not isinstance(result, Response):
            self._failures += 1
            if not isinstance(result, RequestError):
                result = RequestError(500, f"the model ended its thread: {result!r}")
            elif isinstance(result, Expired):
                self.expired += 1
            elif isinstance(result, Cancelled):
                self.cancelled += 1
        done(result)


def _number(model: Model) -> int:
    """The version of a model that nobody numbered, as the wire and URLs can say it."""
    return int(model.version) if model.version.isascii() and model.version.isdigit() else 1
