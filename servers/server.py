"""A server process: listeners, connections, the service behind them, and how all of it starts and stops."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tensorwire._budget import Budget
from tensorwire._memory import pool_limit, pool_trim
from tensorwire._net import Connection
from tensorwire.servers.acceptor import TlsAcceptor
from tensorwire.servers.address import BACKLOG, Address, Listener, listen, parse_address
from tensorwire.servers.fronts.admin import admin_routes
from tensorwire.servers.fronts.backlog import Backlog
from tensorwire.servers.fronts.graphpipe import WireHandler
from tensorwire.servers.fronts.handover import HandOver
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.fronts.no_admin import no_admin_routes
from tensorwire.servers.fronts.pages import make_pages
from tensorwire.servers.fronts.tcp_connection import TcpConnection
from tensorwire.servers.fronts.unix_connection import UnixConnection
from tensorwire.servers.log_writer import flush_logs
from tensorwire.servers.repository.config import ConfigError, RepositoryConfig
from tensorwire.servers.service import Service
from tensorwire.servers.siblings import Siblings
from tensorwire.servers.tls import TlsError, TlsFiles

__all__ = ["App"]

_log = logging.getLogger("tensorwire.server")
_ADMIN_MODE = 0o600
_SWEEP = 1.0  # seconds between two looks at every connection's timeouts
_POOLED = 4  # this part of memory_limit, at most, is kept warm for the next bodies


class App:
    """One service on one or more addresses.

    ``listen``: 'host:port' (port 0: any free one), '[IPv6]:port', 'unix:/path', 'systemd', or a Listener that is open
    already, or several of them. ``tls``: the certificates with which TCP ports speak TLS; UNIX sockets never do.
    ``socket_mode``: permissions of the files of UNIX sockets (None: as the umask says). ``drain_timeout``: seconds
    that requests in flight get when the server stops. ``reread`` reads the configuration of models again.
    ``admin_token`` opens the pages of administration to those who send it ('': to nobody), on the addresses of
    ``admin_listen`` alone if there are some; a UNIX socket there, whose file is this user's alone, needs none.
    ``siblings``: this and the other workers of a server that has several. Start it inside a running event loop, or let
    ``run`` do all of it. Raises ValueError for a bad address, TlsError.
    """

    def __init__(
        self,
        service: Service,
        *,
        listen: str | Sequence[str | Listener] = "127.0.0.1:9000",
        tls: TlsFiles | None = None,
        socket_mode: int | None = None,
        limits: Limits | None = None,
        drain_timeout: float = 30.0,
        reread: Callable[[], RepositoryConfig] | None = None,
        admin_token: str = "",
        admin_listen: str | Sequence[str] = (),
        siblings: Siblings | None = None,
    ) -> None:
        limits = limits or Limits()
        places = [listen] if isinstance(listen, str) else listen
        self.service = service
        self._places = [parse_address(place) if isinstance(place, str) else place for place in places]
        self._tls = tls
        self._reread = reread
        self._context = tls.context() if tls is not None else None
        self._socket_mode = socket_mode
        self._head_timeout = limits.head_timeout
        self._pool_idle = limits.pool_idle
        self._pool_limit = limits.memory_limit // _POOLED
        self._drain_timeout = drain_timeout
        self.budget = Budget(limits.memory_limit, limits.max_waiting)
        self.backlog = Backlog(limits.memory_limit)
        self._admin_places = _admin_places(admin_listen, admin_token)
        administered = bool(admin_token or self._admin_places)
        nothing = no_admin_routes(siblings.count if siblings is not None else 1)
        administration = admin_routes(service, admin_token or None) if administered else nothing
        self._siblings = siblings
        memory = self.budget, self.backlog
        app = partial(make_pages, service, self, limits, *memory, siblings=siblings)
        public = app(nothing if self._admin_places else administration)
        self._pages = HandOver(public, limits, *memory, self._check_quiet)
        self._handler = WireHandler(
            service, limits, *memory, self._pages.hand_over, self._check_quiet, self._pages.__len__
        )
        self._admin_handler = self._handler.beside(self._pages.door(app(administration)))
        self._listeners: list[Listener] = []
        self._admin_listeners: list[Listener] = []
        self._servers: list[asyncio.AbstractServer | TlsAcceptor[Connection]] = []
        self._loop: asyncio.AbstractEventLoop
        self._timer: asyncio.TimerHandle
        self._quiet = asyncio.Event()
        self._stopping = False

    @property
    def urls(self) -> list[str]:
        """Where the server can be reached, real ports included; empty before ``start``."""
        scheme = "http" if self._tls is None else "https"
        return [listener.url(scheme) for listener in self._listeners]

    @property
    def admin_urls(self) -> list[str]:
        """Where it can be administered, if that has addresses of its own."""
        return [listener.url("http" if self._tls is None else "https") for listener in self._admin_listeners]

    @property
    def ready(self) -> bool:
        """Listening, and not about to stop."""
        return bool(self._servers) and not self._stopping

    @property
    def open_connections(self) -> int:
        return len(self._handler.connections) + len(self._pages)

    @property
    def handshakes(self) -> int:
        """Connections whose TLS is still being agreed on."""
        return len(self._handler.agreeing)

    async def start(self, *, listening: bool = True) -> None:
        """Listen on every address, or be only bound to it until ``accept``; raises ListenError, with nothing left
        listening and the service closed.
        """
        self._loop = loop = asyncio.get_running_loop()
        self.budget.wake = partial(loop.call_soon_threadsafe, self.budget.admit)
        try:
            for place in self._places:
                opened = [place] if isinstance(place, Listener) else listen(place, socket_mode=self._socket_mode)
                self._listeners += opened
            for address in self._admin_places:
                self._admin_listeners += listen(address, socket_mode=_ADMIN_MODE)
            if listening:
                await self.accept()
        except OSError:
            self._close_listeners()
            self.service.close()
            raise
        # Of the process, so it is put back at the end.
        self._pool_before = pool_limit(self._pool_limit)
        if self._pool_before < self._pool_limit:
            pool_limit(self._pool_before)
        self.service.start()
        if self._siblings is not None:
            self._siblings.join()
        self._sweep()

    async def accept(self) -> None:
        """Take connections."""
        for listener in self._listeners:
            self._servers.append(await self._open(listener, self._handler))
        for listener in self._admin_listeners:
            self._servers.append(await self._open(listener, self._admin_handler))

    async def _open(self, listener: Listener, handler: WireHandler) -> asyncio.AbstractServer | TlsAcceptor[Connection]:
        """Accept connections. The server gets a duplicate of the socket, so that it can be closed and the port not."""
        loop, sock = self._loop, listener.sock.dup()
        if self._tls is not None and not listener.unix:
            sock.listen(BACKLOG)
            return TlsAcceptor(sock, self._current_context, handler.accepted, handler.agreed, self._head_timeout)
        # The loop listens once more, with a backlog of 100 unless told.
        if listener.unix:
            # Since 3.13 the loop would remove the socket's file when it closes; `Listener` knows whose the file is.
            keep: dict[str, Any] = {"cleanup_socket": False} if sys.version_info >= (3, 13) else {}
            return await loop.create_unix_server(partial(UnixConnection, handler), sock=sock, backlog=BACKLOG, **keep)
        return await loop.create_server(partial(TcpConnection, handler), sock=sock, backlog=BACKLOG)

    def _current_context(self) -> ssl.SSLContext:
        assert self._context is not None
        return self._context

    async def reload(self) -> bool:
        """Read again what there is: certificates, the configuration, the base paths of models.

        False, with the reason logged, when that fails, or there is nothing to read. Connections that are open keep
        their certificates.
        """
        if not self.ready:
            return False
        repository = self.service.repository
        if self._tls is None and repository is None:
            _log.info("nothing to read again: no certificates, no configuration, no base path")
            return False
        certificates = await self._reload_certificates()
        configuration = await self._reload_configuration()
        if repository is not None:
            for name in repository.models:
                repository.wake(name)
            _log.info("looking at the files of %d models", len(repository.models))
        return configuration and certificates

    async def _reload_certificates(self) -> bool:
        if self._tls is None:
            return True
        try:
            self._context = self._tls.context()
        except TlsError as error:
            _log.error("the certificates stay as they are: %s", error)
            return False
        _log.info("certificates read again")
        return True

    async def _reload_configuration(self) -> bool:
        if self._reread is None:
            return True
        try:
            config = await asyncio.to_thread(self._reread)
        except ConfigError as error:
            _log.error("the configuration stays as it is: %s", error)
            self.service.problem = f"the configuration stays as it is: {error}"
            return False
        self.service.problem = ""
        _log.info("configuration read again: %d models", len(config.models))
        await self.service.configure(config)
        return True

    async def stop(self) -> bool:
        """Stop listening, finish the requests in flight, close; for an App that has been started, once.

        Returns False when requests were still unfinished after ``drain_timeout``.
        """
        loop = self._loop
        give_up = loop.time() + self._drain_timeout
        self._stopping = True
        await self._take_in()
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
        for server in self._servers:
            if isinstance(server, TlsAcceptor):
                server.abort()
        # The transports tell their protocols in the next turn of the loop.
        await asyncio.sleep(0)
        self._timer.cancel()
        if self._siblings is not None:
            self._siblings.leave()
        pool_limit(self._pool_before)
        await self.service.stop()
        return finished

    async def _take_in(self) -> None:
        """Have the loop accept and read what has come: closing would reset it, and requests in it are not lost."""
        waiting = select.poll()
        for listener in self._listeners if self._servers else ():
            waiting.register(listener.sock, select.POLLIN)
        for _ in range(BACKLOG):
            if not waiting.poll(0):
                break
            await asyncio.sleep(0)
        # Of those that were accepted last, and of all others: a turn that begins to read, and one that does.
        for _ in range(3):
            await asyncio.sleep(0)

    async def run(
        self,
        on_ready: Callable[[App], None] | None = None,
        *,
        parent: socket.socket | None = None,
        loaded_first: bool = False,
    ) -> bool:
        """Start, call ``on_ready``, serve until SIGTERM or SIGINT, stop; returns as ``stop`` does.

        A second signal ends the process at once; SIGHUP reads again what ``reload`` does. Signals are only
        listened to on the main thread. ``parent``: a socket whose end also means to stop; then SIGINT, which a terminal
        sends to every process, is the parent's business. ``loaded_first``: do not listen before every model has been
        loaded, if it can be.
        """
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()

        def on_signal(number: signal.Signals) -> None:
            if stop.is_set():
                sys.stdout.flush()
                flush_logs()
                # Not sys.exit: the loop would go on until the requests in flight are finished.
                os._exit(128 + number)
            _log.info("%s: finishing %d requests in flight", number.name, self.service.in_flight)
            stop.set()

        def on_orphaned(parent: socket.socket) -> None:
            loop.remove_reader(parent)  # or it would be called until the requests in flight are finished
            stop.set()

        handlers: dict[signal.Signals, Callable[[], object]] = {
            number: partial(on_signal, number) for number in (signal.SIGTERM, signal.SIGINT)
        }
        if parent is not None:
            del handlers[signal.SIGINT]
            loop.add_reader(parent, on_orphaned, parent)
        handlers[signal.SIGHUP] = self._on_hangup
        if threading.current_thread() is not threading.main_thread():
            handlers.clear()
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            await self.start(listening=not loaded_first)
            try:
                if loaded_first and await self._loaded(stop):
                    await self.accept()
                if on_ready is not None:
                    on_ready(self)
                await stop.wait()
            finally:
                finished = await self.stop()
            return finished
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)
            if parent is not None:
                loop.remove_reader(parent)

    async def _loaded(self, stop: asyncio.Event) -> bool:
        """Return when every model has been loaded, or could not be; False when it is time to stop before that."""
        if self.service.repository is not None:
            steps = [asyncio.ensure_future(step) for step in (self.service.repository.settled(), stop.wait())]
            await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
            for step in steps:
                step.cancel()
        return not stop.is_set()

    def _on_hangup(self) -> None:
        self._reloading = asyncio.ensure_future(self.reload())  # kept: a loop refers to its tasks weakly

    def expire(self, now: float) -> None:
        """Look at every connection's time limits, as if loop.time() were ``now``."""
        for connection in list(self._handler.connections):
            connection.expire(now)
        self._pages.expire(now)

    def _sweep(self) -> None:
        self.expire(self._loop.time())
        pool_trim(self._pool_idle)
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
        for listener in [*self._listeners, *self._admin_listeners]:
            listener.unlink()
            listener.sock.close()


def _admin_places(listen: str | Sequence[str], token: str) -> list[Address]:
    places = [parse_address(text) for text in ([listen] if isinstance(listen, str) else listen)]
    for place in places:
        if place.systemd:
            raise ConfigError("administration listens on addresses, not on systemd's sockets")
        if not place.path and not token:
            raise ConfigError(
                f"administration on {place} needs a token: only the file of a UNIX socket says who may do it"
            )
    return places
