"""A model that runs in a process of its own."""

from __future__ import annotations

import atexit
import logging
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from math import inf

from tensorwire._encode import encode
from tensorwire._frame import Frame
from tensorwire._messages import Request, Response
from tensorwire.servers.deadline import time_left
from tensorwire.servers.isolation.description import Description
from tensorwire.servers.isolation.lane import Breach, Lane
from tensorwire.servers.isolation.packets import FAILED
from tensorwire.servers.isolation.process import Ended, Process
from tensorwire.servers.isolation.target import Target
from tensorwire.servers.model import Array, Model, ModelError, ModelFailure, RequestError
from tensorwire.servers.resident import resident
from tensorwire.servers.restarts import Backoff

__all__ = ["IsolatedModel", "end_all"]

_log = logging.getLogger("tensorwire.service")

_GRACE = 5.0  # seconds that a call may take beyond its own deadline
_SOON = 0.5  # seconds in which a process that has closed its connections should end
_LAST = 2.0  # seconds for a process to end when it is asked to

_open: weakref.WeakSet[IsolatedModel] = weakref.WeakSet()


class IsolatedModel(Model):
    """Loads the target in another process and runs it there. A crash costs the calls under way, which raise
    RequestError 503; the process is started again, after a pause that grows while it dies young.

    ``timeout``: seconds after which a call is taken to hang, and the process is killed (None: never); a call whose
    request has a deadline of its own hangs ``grace`` seconds after that. Inputs are copied once, into shared memory,
    results once on the other side; what ``run`` returns are read-only views of shared memory.

    Raises ModelError as the engine does, or when the process ends before the model is loaded.
    """

    def __init__(self, target: Target, *, timeout: float | None = None, grace: float = _GRACE) -> None:
        self.restarts = 0
        self._target = target
        self._timeout = timeout
        self._grace = grace
        self._process: Process | None = None
        self._serving: Process | None = None
        self._description: Description | None = None
        self._first = threading.Event()
        self._failure: Exception | None = None
        self._closing = threading.Event()
        self._ended = ""
        self._keeper = threading.Thread(target=self._keep, name="model-keeper", daemon=True)
        self._keeper.start()
        self._first.wait()
        if self._failure is not None:
            self._keeper.join()
            raise self._failure
        _open.add(self)

    @property
    def ready(self) -> bool:
        """The process runs and has loaded the model."""
        return self._alive is not None

    @property
    def memory(self) -> int | None:
        """What its process has in memory; 0 while there is none."""
        serving = self._alive
        return 0 if serving is None else resident(serving.pid)

    @property
    def status(self) -> str:
        """Which process it is, how many before it have ended, and how the last one did."""
        serving = self._alive
        now = f"process {serving.pid}" if serving is not None else "no process"
        return f"{now}, restarts: {self.restarts}" + (f", the last one {self._ended}" if self._ended else "")

    @property
    def _alive(self) -> Process | None:
        """The serving process; None from the moment on that its calls end with it, before its keeper takes it away."""
        serving = self._serving
        return None if serving is None or serving.ended.is_set() else serving

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Run the model in its process. Raises RequestError 503 when that has ended, or ends meanwhile, 504 when it was
        killed because the call took too long; ModelFailure with what the model raised.
        """
        process = self._serving
        if process is None:
            raise RequestError(503, self._unready())
        frame = encode(Request(dict(inputs), outputs, signature=signature))
        try:
            lane = process.idle.pop()
        except IndexError:
            text = self._unready() if process.ended.is_set() else f"busy: {self.concurrency} calls are under way"
            raise RequestError(503, text) from None
        response, flags = self._call(process, lane, frame)
        if response.errors:
            error = response.errors[0]
            raise ModelFailure(error.message) if flags & FAILED else RequestError(error.code, error.message)
        return dict(zip(response.outputs.names, response.outputs.arrays, strict=True))

    def close(self) -> None:
        """Let the process end; two seconds later it is killed. Does not wait."""
        self._closing.set()
        self._serving = None
        if self._process is not None:
            self._process.shut()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until a closed model's process has ended; False when it has not."""
        self._keeper.join(timeout)
        return not self._keeper.is_alive()

    def _call(self, process: Process, lane: Lane, frame: Frame) -> tuple[Response, int]:
        timeout, left = self._timeout, time_left()
        if left is not None:
            timeout = min(left + self._grace, timeout if timeout is not None else inf)
        usable = False
        try:
            answer = lane.call(frame, timeout)
            usable = True
            return answer
        except MemoryError:
            usable = True
            raise
        except TimeoutError:
            text = f"a call had not ended after {timeout:.1f} s"
            self._kill(process, f"was killed: {text}")
            raise RequestError(504, f"{text}: the model's process was killed") from None
        except Breach as error:
            self._kill(process, f"was killed: it said what it must not: {error}")
        except (EOFError, OSError):
            if not process.ended.wait(_SOON):
                self._kill(process, "was killed: it had closed a connection")
        finally:
            process.give_back(lane, usable=usable)
        process.ended.wait(2 * _LAST)
        raise RequestError(503, f"the model's process {process.how or 'ended'} while it ran this request, try again")

    def _kill(self, process: Process, how: str) -> None:
        if self._serving is process:
            self._serving = None  # now, not when its end is noticed
            self._ended = how
        process.kill(how)

    def _unready(self) -> str:
        if self._closing.is_set():
            return f"model {self.name!r} is closed"
        return f"the model's process {self._ended or 'ended'}; another one loads the model"

    def _keep(self) -> None:
        """The life of the keeper: one process after another."""
        backoff = Backoff()
        while not self._closing.is_set():
            began = time.monotonic()
            self._ended = self._live()
            if self._failure is not None or self._closing.is_set():
                return
            self.restarts += 1
            pause = backoff.pause(time.monotonic() - began)
            _log.error("model %r: its process %s; another one starts in %.1f s", self.name, self._ended, pause)
            self._closing.wait(pause)

    def _live(self) -> str:
        """The life of one process; how it ended."""
        try:
            self._process = process = Process(self._target)
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread is left
            self._fail(ModelError(f"{self._target.path}: no process can be started for it: {error}"))
            return f"cannot be started ({error})"
        reason = ""
        try:
            if self._closing.is_set():
                process.shut()
            self._take(process.load())
            process.open_lanes(self.concurrency)
            if not self._closing.is_set():
                self._serving = process
            self._first.set()
        except ModelError as error:
            reason = f"could not load the model ({error})"
            self._fail(error)
            process.shut()
        except Ended as error:
            if str(error):
                process.kill(str(error))
        process.wait()
        self._serving = None
        self._ended = process.how
        process.clean_up()
        self._process = None
        self._fail(ModelError(f"{self._target.path or 'the model'}: the process that loads it {process.how}"))
        return reason or process.how

    def _fail(self, error: ModelError) -> None:
        """Nothing could be loaded: tell whoever waits for the first time."""
        if not self._first.is_set():
            self._failure = error
            self._first.set()

    def _take(self, found: Description) -> None:
        """What the process says of the model. Raises Ended when it is not the model that it was."""
        before = self._description
        if before is not None and (
            (before.signatures, before.concurrency, before.texts["default_signature"])
            != (found.signatures, found.concurrency, found.texts["default_signature"])
        ):
            raise Ended("loaded a model of other signatures than before; the server has to be started again for it")
        self._description = found
        for name, text in found.texts.items():
            # What it is called, whoever has the model may have changed since.
            if before is None or name not in ("name", "version"):
                setattr(self, name, text)
        self.engine = f"{self.engine}, in a process of its own"
        self.facts = found.facts
        self.signatures = found.signatures
        self.concurrency = found.concurrency
        self.exact = found.exact


@atexit.register
def end_all() -> None:
    """Close what is still open and wait for its end; for processes that end without the interpreter's own way."""
    for model in list(_open):
        model.close()
    for model in list(_open):
        model.join(2 * _LAST)
