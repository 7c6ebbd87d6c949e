"""Loading in threads of their own, tried more than once, with a warm-up before the first request."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path

from tensorwire.servers.engines.registry import prepare
from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.aside import run_aside
from tensorwire.servers.repository.config import ModelConfig
from tensorwire.servers.repository.gauge import Gauge
from tensorwire.servers.repository.layout import model_file, unreadable
from tensorwire.servers.repository.warmup import warm_up

__all__ = ["Load", "Loader", "unfinished"]

Load = Callable[[Path, ModelConfig], Model]
"""Loads the model at a path, as its config says; raises ModelError."""

_under_way: set[Future[tuple[Model, int | None]]] = set()  # loads in this process, those nobody waits for among them
_log = logging.getLogger("tensorwire.repository")
_FIRST_PAUSE = 0.5  # seconds before the second attempt; each further pause is twice as long


class Loader:
    """Loads several models at once, at most ``threads``. ``is_model`` says whether an engine recognizes a path.
    ``exact``: what a model takes matters, though measuring it costs some ms.
    """

    def __init__(self, load: Load, is_model: Callable[[Path], bool], *, threads: int = 4, exact: bool = False) -> None:
        self._load = load
        self._is_model = is_model
        self._exact = exact
        self._gauge = Gauge()
        self._free = asyncio.Semaphore(threads)
        self._closed = False

    async def load(self, config: ModelConfig, number: int, path: Path) -> tuple[Model, int | None]:
        """A model that is ready for requests, and the bytes that it takes in this process (None: not known, since
        others were loaded meanwhile). Raises ModelError when the last attempt has failed.
        """
        pause = _FIRST_PAUSE
        for attempt in range(1, config.attempts + 1):
            try:
                return await self._in_a_thread(config, number, path)
            except ModelError as error:
                if attempt == config.attempts:
                    raise
                _log.warning("model %r version %d: attempt %d failed: %s", config.name, number, attempt, error)
            await asyncio.sleep(pause)
            pause *= 2
        raise AssertionError("a config has at least one attempt")

    def close(self) -> None:
        """Take no more loads; those under way end by themselves. Can be called twice."""
        self._closed = True

    async def _in_a_thread(self, config: ModelConfig, number: int, path: Path) -> tuple[Model, int | None]:
        async with self._free:
            if self._closed:
                raise ModelError("the server is stopping")
            attempt = run_aside(partial(self._measured, config, number, path), f"load-{config.name}-{number}")
            _under_way.add(attempt)
            attempt.add_done_callback(_under_way.discard)
            try:
                return await asyncio.wrap_future(attempt)
            except asyncio.CancelledError:
                # The thread cannot be stopped, and nobody waits for its model.
                attempt.add_done_callback(_close_result)
                raise

    def _measured(self, config: ModelConfig, number: int, path: Path) -> tuple[Model, int | None]:
        if self._exact:
            prepare(path, config.engine)
        return self._gauge.measure(partial(self._attempt, config, number, path), exact=self._exact)

    def _attempt(self, config: ModelConfig, number: int, path: Path) -> Model:
        try:
            file = model_file(path, self._is_model)
            model = self._load(file, config)
        except Exception as error:
            with contextlib.suppress(OSError):
                if (closed := unreadable(path)) is not None:
                    raise ModelError(f"{closed}: Permission denied") from error
            if isinstance(error, ModelError):
                raise
            # An engine's own mistake, or a file that went away meanwhile.
            raise ModelError(f"{path}: {type(error).__name__}: {' '.join(str(error).split())}") from error
        model.name, model.version = config.name, str(number)
        try:
            if config.warm_up:
                warm_up(model, path, file)
        except BaseException:
            model.close()
            raise
        return model


def unfinished() -> bool:
    """Models are still being loaded in this process, by threads that do not hold it up when it ends."""
    return bool(_under_way)


def _close_result(attempt: Future[tuple[Model, int | None]]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[0].close()
