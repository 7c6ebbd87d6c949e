"""A server process: listeners, connections, the service behind them, and how all of it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tensorwire._net import Connection
from tensorwire.servers.address import Listener, listen, parse_address
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.fronts.graphpipe import WireHandler
from tensorwire.servers.fronts.handover import HandOver
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.pages import make_pages
from tensorwire.servers.model import Model
from tensorwire.servers.service import Service, open_model

__all__ = ["App", "make_app", "new_event_loop", "serve_model"]

_log = logging.getLogger("tensorwire.server")
_SWEEP = 1.0  # seconds between two looks at every connection's timeouts


class App:
    """One service on one or more addresses.

    ``listen``: 'host:port' (port 0: any free one), '[IPv6]:port' or 'unix:/path', or several of them.
    ``drain_timeout``: seconds that requests in flight get when the server stops.
    Start it inside a running event loop, or let ``run`` do all of it.
    """

    def __init__(
        self,
        service: Service,
        *,
        listen: str | Sequence[str] = "127.0.0.1:9000",
        limits: Limits | None = None,
        drain_timeout: float = 30.0,
    ) -> None:
        limits = limits or Limits()
        texts = [listen] if isinstance(listen, str) else listen
        self.service = service
        self._addresses = [parse_address(text) for text in texts]
        self._drain_timeout = drain_timeout
        self._pages = HandOver(make_pages(service, self, limits), limits, self._check_quiet)
        self._handler = WireHandler(service, limits, self._pages.hand_over, self._check_quiet)
        self._listeners: list[Listener] = []
        self._servers: list[asyncio.AbstractServer] = []
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle
        self._quiet = asyncio.Event()
        self._stopping = False

    @property
    def urls(self) -> list[str]:
        """Where the server can be reached, real ports included; empty before ``start``."""
        return [listener.url for listener in self._listeners]

    @property
    def ready(self) -> bool:
        """Listening, and not about to stop."""
        return bool(self._servers) and not self._stopping

    @property
    def open_connections(self) -> int:
        return len(self._handler.connections) + len(self._pages)

    async def start(self) -> None:
        """Listen on every address; raises ListenError, with nothing left listening and the service closed."""
        self._loop = loop = asyncio.get_running_loop()
        try:
            for address in self._addresses:
                self._listeners += listen(address)
            for listener in self._listeners:
                create = loop.create_unix_server if listener.address.path else loop.create_server
                self._servers.append(await create(self._connection, sock=listener.sock))
        except OSError:
            self._close_listeners()
            self.service.close()
            raise
        self._sweep()

    async def stop(self) -> bool:
        """Stop listening, finish the requests in flight, close; for an App that has been started, once.

        Returns False when requests were still unfinished after ``drain_timeout``.
        """
        loop = self._loop
        give_up = loop.time() + self._drain_timeout
        self._stopping = True
        self._close_listeners()
        self._drain_connections()
        self._check_quiet()
        finished = True
        try:
            async with asyncio.timeout_at(give_up):
                await self._quiet.wait()
        except TimeoutError:
            finished = False
            _log.warning("%d connections unfinished after %g s", self.open_connections, self._drain_timeout)
        await self.service.drain(max(give_up - loop.time(), 0.0))
        for connection in list(self._handler.connections):
            connection.abort()
        self._pages.abort()
        # The transports tell their protocols in the next turn of the loop.
        await asyncio.sleep(0)
        self._timer.cancel()
        self.service.close()
        return finished

    async def run(self, on_ready: Callable[[App], None] | None = None) -> bool:
        """Start, call ``on_ready``, serve until SIGTERM or SIGINT, stop; returns as ``stop`` does.

        A second signal ends the process at once. Signals are only listened to on the main thread.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stop.is_set():
                sys.stdout.flush()
                # Not sys.exit: the loop would go on until the requests in flight are finished.
                os._exit(128 + number)
            _log.info("%s: finishing %d requests in flight", number.name, self.service.in_flight)
            stop.set()

        signals = (signal.SIGTERM, signal.SIGINT)
        on_main = threading.current_thread() is threading.main_thread()
        for number in signals if on_main else ():
            loop.add_signal_handler(number, on_signal, number)
        try:
            await self.start()
            try:
                if on_ready is not None:
                    on_ready(self)
                await stop.wait()
            finally:
                finished = await self.stop()
            return finished
        finally:
            for number in signals if on_main else ():
                loop.remove_signal_handler(number)

    def _connection(self) -> Connection:
        return Connection(self._handler)

    def expire(self, now: float) -> None:
        """Look at every connection's time limits, as if loop.time() were ``now``."""
        for connection in list(self._handler.connections):
            connection.expire(now)
        self._pages.expire(now)

    def _sweep(self) -> None:
        self.expire(self._loop.time())
        if self._stopping:
            # Those that were accepted after the first round; by now they have sent a request, or are idle.
            self._drain_connections()
        self._timer = self._loop.call_later(_SWEEP, self._sweep)

    def _drain_connections(self) -> None:
        for connection in list(self._handler.connections):
            connection.drain()
        self._pages.drain()

    def _check_quiet(self) -> None:
        if self._stopping and not self._quiet.is_set():
            # Later: a connection that is being handed over is in neither count for a moment.
            self._loop.call_soon(self._set_quiet)

    def _set_quiet(self) -> None:
        if not self.open_connections:
            self._quiet.set()

    def _close_listeners(self) -> None:
        for server in self._servers:
            server.close()
        for listener in self._listeners:
            listener.unlink()
            listener.sock.close()


def new_event_loop() -> asyncio.AbstractEventLoop:
    """The loop that servers run on: uvloop's, or asyncio's where uvloop does not exist (Windows)."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def make_app(
    model: Any = None,
    *,
    listen: str | Sequence[str] = "127.0.0.1:9000",
    drain_timeout: float = 30.0,
    engine: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
    max_queue: int = 1024,
    **limits: Any,
) -> App:
    """An App for one model: a path, a callable, a Model, or None for the embedded digits classifier.

    ``limits`` are the fields of Limits: max_body, max_head (bytes), head_timeout, body_timeout, idle_timeout
    (seconds). Raises ModelError, ValueError for a bad address or limit, TypeError for an unknown option.
    """
    checked = Limits(**limits)
    service = Service([_as_model(model, engine, engine_options)], max_queue=max_queue)
    return App(service, listen=listen, limits=checked, drain_timeout=drain_timeout)


def serve_model(
    model: Any = None,
    *,
    listen: str | Sequence[str] = "127.0.0.1:9000",
    on_ready: Callable[[App], None] | None = None,
    **options: Any,
) -> bool:
    """Serve one model until SIGTERM or SIGINT; the arguments are those of ``make_app``.

    ``on_ready`` is called on the loop's thread when the server listens. Returns False when requests were
    still unfinished after the drain timeout. Raises ListenError, and what ``make_app`` raises.
    """

    async def main() -> bool:
        return await make_app(model, listen=listen, **options).run(on_ready)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


def _as_model(model: Any, engine: str | None, options: Mapping[str, Any] | None) -> Model:
    if isinstance(model, Model):
        return model
    if callable(model):
        return FunctionModel(model)
    return open_model(model, engine=engine, options=options)
