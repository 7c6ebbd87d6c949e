"""A server on a thread of its own, for tests and notebooks.

It lives as long as a ``with`` block, or until it is stopped:

    with BackgroundServer(lambda inputs: {"y": inputs["x"] * 2}) as server:
        print(tensorwire.Client(server.url).infer({"x": x})["y"])
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from tensorwire.servers.app import App, make_app, new_event_loop

__all__ = ["BackgroundServer"]


class BackgroundServer:
    """Serves a model from a background thread until ``stop`` or the end of the ``with`` block.

    ``model`` and the options are those of ``tensorwire.serve``, but the default address is any free port of
    the loopback interface. The constructor returns when the server listens, or raises what kept it from that.
    """

    def __init__(
        self, model: Any = None, *, listen: str | Sequence[str] = "127.0.0.1:0", **options: Any
    ) -> None:
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._stop: asyncio.Event | None = None
        self._thread = threading.Thread(
            target=self._main, args=(model, listen, options), name="tensorwire-server", daemon=True
        )
        self._thread.start()
        self._started.wait()
        if self._failure is not None:
            self._join()

    app: App
    """What the thread runs; its methods are for the loop's thread."""
    loop: asyncio.AbstractEventLoop
    """The thread's event loop; ``loop.call_soon_threadsafe`` runs something on it."""

    @property
    def url(self) -> str:
        """Where to reach it: 'http://127.0.0.1:49152', 'unix:///path'."""
        return self.app.urls[0]

    def stop(self) -> None:
        """Finish the requests in flight, close, and end the thread. May be called more than once.

        Raises what went wrong on the thread, if anything did.
        """
        if self._stop is not None:
            with suppress(RuntimeError):  # the loop is closed
                self.loop.call_soon_threadsafe(self._stop.set)
        self._join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _join(self) -> None:
        self._thread.join()
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure

    def _main(self, model: Any, listen: str | Sequence[str], options: dict[str, Any]) -> None:
        try:
            with asyncio.Runner(loop_factory=new_event_loop) as runner:
                runner.run(self._serve(model, listen, options))
        except BaseException as error:
            self._failure = error
        finally:
            self._started.set()

    async def _serve(self, model: Any, listen: str | Sequence[str], options: dict[str, Any]) -> None:
        self.loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self.app = make_app(model, listen=listen, **options)
        await self.app.start()
        self._started.set()
        await self._stop.wait()
        await self.app.stop()
