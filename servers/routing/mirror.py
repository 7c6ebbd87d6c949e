"""Copies of a model's requests for another version, whose answers are compared and counted, never returned."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from functools import partial
from time import perf_counter

from tensorwire._messages import Request, Response
from tensorwire._tally import Tally
from tensorwire.servers.model import RequestError, failure_text
from tensorwire.servers.routing.compare import difference
from tensorwire.servers.routing.rules import MirrorRule
from tensorwire.servers.routing.served import Served
from tensorwire.servers.routing.split import share_of

__all__ = ["Mirror"]

_log = logging.getLogger("tensorwire.service")

_MOST_WAITING = 8  # copies that wait for the mirror's threads; further requests are not copied
_AGAIN = 60.0  # seconds between two lines in the log about answers that are not the same

Done = Callable[[Response | RequestError], None]
_Found = tuple[str | BaseException, float, float]


class Mirror:
    """Copies requests to the version ``served`` (None: it is not there now) as ``rule`` says.

    ``same``, ``different``, ``failed`` count the answers by how they compare, ``skipped`` the requests that were not
    copied because the version was not there or had enough to do; ``latest`` is the latest difference in words,
    ``tally`` has how long the copies took. A copy is run when the client has its answer, with the request's own memory,
    which stays in use meanwhile.
    """

    def __init__(self, name: str, rule: MirrorRule) -> None:
        self.rule = rule
        self.served: Served | None = None
        self.same = self.different = self.failed = self.skipped = 0
        self.latest = ""
        self.tally = Tally()
        self._name = name
        self._told = -_AGAIN

    def follow(self, request: Request, signature: str, done: Done) -> Done:
        """``done``, which then also copies the request, if it was answered."""
        if not share_of(request.id, self.rule.share):
            return done
        return partial(self._after, request, signature, done)

    def _after(self, request: Request, signature: str, done: Done, result: Response | RequestError) -> None:
        done(result)
        if isinstance(result, Response):
            self._copy(request, signature, result)

    def _copy(self, request: Request, signature: str, answer: Response) -> None:
        served = self.served
        if served is None:
            self.skipped += 1
            return
        job = partial(_run, served, request, signature, answer, self.rule.tolerance)
        if served.workers is None:
            asyncio.get_running_loop().call_soon(lambda: self._count(job()))
            return
        try:
            if served.workers.in_flight >= served.workers.size + _MOST_WAITING:
                raise RequestError(503, "busy")
            served.workers.submit(job, (), self._count)
        except RequestError:
            self.skipped += 1

    def _count(self, found: _Found | BaseException) -> None:
        outcome, began, ended = (found, 0.0, 0.0) if isinstance(found, BaseException) else found
        self.tally.add(began, ended, isinstance(outcome, BaseException))
        if outcome == "":
            self.same += 1
            return
        if isinstance(outcome, str):
            self.different += 1
            self.latest = outcome
        else:
            self.failed += 1
            text = outcome.message if isinstance(outcome, RequestError) else failure_text(outcome)
            self.latest = f"no answer: {text}"
        if time.monotonic() - self._told >= _AGAIN:
            self._told = time.monotonic()
            _log.warning("model %r: version %s does not answer the same: %s", self._name, self.rule.to, self.latest)


def _run(served: Served, request: Request, signature: str, answer: Response, tolerance: float) -> _Found:
    """Ask the version, and compare: the difference in words ('': none) or why it has no answer, and when it was run."""
    began = perf_counter()
    try:
        check = served.check(signature)
        feeds, asked = check.feeds(request.inputs), check.asked(request.outputs)
        found = check.results(served.model.run(check.signature.name, feeds, asked), asked)
    except BaseException as error:
        # Its traceback's frames would keep the request's arrays.
        return error.with_traceback(None), began, perf_counter()
    ended = perf_counter()
    given = dict(zip(answer.outputs.names, answer.outputs.arrays, strict=True))
    return difference(given, {name: found[name] for name in given if name in found}, tolerance), began, ended
