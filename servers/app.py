"""From a model and options to a running server: in this process, or in several that share a port."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from tensorwire.servers.address import Listener, parse_address, reserve
from tensorwire.servers.engines.python_model import as_model
from tensorwire.servers.fronts.limits import Limits
from tensorwire.servers.model import Model, ModelError
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig
from tensorwire.servers.repository.config_file import load_config
from tensorwire.servers.repository.layout import numbered
from tensorwire.servers.repository.loading import Load
from tensorwire.servers.repository.local import load_version, open_model
from tensorwire.servers.repository.source import is_remote, only_model
from tensorwire.servers.server import App
from tensorwire.servers.service import Service
from tensorwire.servers.siblings import Siblings
from tensorwire.servers.supervisor import Supervisor
from tensorwire.servers.tls import TlsFiles

__all__ = ["App", "is_base_path", "make_app", "new_event_loop", "serve_model"]


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
    listen: str | Sequence[str | Listener] = "127.0.0.1:9000",
    tls_cert: str | Path | None = None,
    tls_key: str | Path | None = None,
    tls_client_ca: str | Path | None = None,
    socket_mode: int | None = None,
    drain_timeout: float = 30.0,
    engine: str | None = None,
    engine_options: Mapping[str, Any] | None = None,
    name: str = "",
    max_queue: int = 1024,
    request_timeout: float | None = None,
    isolate: bool = False,
    isolate_memory: int = 0,
    config: str | Path | RepositoryConfig | None = None,
    poll: float = 1.0,
    watch: bool = True,
    admin_token: str = "",
    admin_listen: str | Sequence[str] = (),
    model_memory: int = 0,
    on_demand: bool = False,
    cache_dir: str | Path | None = None,
    model_cache: str | Path | None = None,
    siblings: Siblings | None = None,
    **limits: Any,
) -> App:
    """An App for one model: a path, 'module:name' of Python, a function, class or object of Python, a Model, or None
    for the embedded digits classifier. A folder of numbered versions, or a URL that fsspec reads, is kept in line with:
    see Repository; files from URLs are kept in the folder ``model_cache`` (None: tensorwire in the user's caches).

    ``name`` is the model's, if not its file's. ``config``: instead of one model, those of a configuration, or of a file
    that holds one in any of the formats of ``repository.config_file``; ``poll``: seconds between two looks at their
    files (0: none), ``watch``: look when the system tells of a change, too; ``model_memory`` and ``on_demand``: bytes
    that they may take together (0: any number), and whether those that have no room are loaded when they are asked
    for. ``max_queue`` and ``request_timeout`` are those of Service, the files of TLS those of TlsFiles, ``limits`` are
    the fields of Limits, the rest is as for App.
    ``isolate``: run each model in a process of its own, which may have ``isolate_memory`` bytes for itself (0: any
    number), and which is killed when a request takes longer than ``request_timeout``; the model must be one that
    another process can load, so no Model. ``cache_dir``: a folder where the results of one model of a path are kept by
    row; see CachedModel for what it must be. Raises ModelError,
    ConfigError, TlsError, ValueError for a bad address or limit, TypeError for an unknown option.
    """
    checked = Limits(**limits)
    tls = _tls(tls_cert, tls_key, tls_client_ca)
    if isolate_memory and not isolate:
        raise ValueError("isolate_memory is of no use without isolate")
    load: Load = load_version
    if isolate:
        load = partial(_isolated_version, isolate_memory, request_timeout)
    reread = None
    models: list[Model] = []
    if isinstance(config, str | Path):
        reread = partial(load_config, Path(config))
        config = reread()
    elif config is None:
        config = _versioned(model, name, engine, engine_options)
        if config is None:
            if isolate:
                models = [_isolated(model, engine, engine_options, isolate_memory, request_timeout)]
            else:
                models = [_as_model(model, engine, engine_options)]
            models[0].name = name or models[0].name
            if cache_dir is not None:
                models = [_cached(models[0], model, engine_options, Path(cache_dir))]
    if cache_dir is not None and config is not None:
        raise ModelError("results can be kept for one model, not for those of a configuration or a base path")
    if (admin_token or admin_listen) and config is None:
        raise ConfigError("administration is for models that a configuration or a base path names")
    if (model_memory or on_demand) and config is None:
        raise ConfigError("a limit of models' memory is for those that a configuration or a base path names")
    service = Service(
        models,
        max_queue=max_queue,
        request_timeout=request_timeout,
        config=config,
        load=load,
        poll=poll,
        watch=watch,
        memory=model_memory,
        on_demand=on_demand,
        cache=None if model_cache is None else Path(model_cache).expanduser(),
    )
    return App(
        service,
        listen=listen,
        tls=tls,
        socket_mode=socket_mode,
        limits=checked,
        drain_timeout=drain_timeout,
        reread=reread,
        admin_token=admin_token,
        admin_listen=admin_listen,
        siblings=siblings,
    )


def serve_model(
    model: Any = None,
    *,
    listen: str | Sequence[str] = "127.0.0.1:9000",
    on_ready: Callable[[App], None] | None = None,
    workers: int = 1,
    **options: Any,
) -> bool:
    """Serve one model until SIGTERM or SIGINT; the arguments are those of ``make_app``.

    ``on_ready`` is called on the loop's thread when the server listens. ``workers``: how many processes share the
    addresses; each loads the model, which should therefore be a path or a function, and has its share of
    ``memory_limit`` and ``model_memory``; ``on_ready`` is called in the first of them. Returns False when requests were
    still unfinished after the drain timeout. Raises ListenError, what ``make_app`` raises, and SupervisorError when the
    workers cannot start.
    """
    if workers < 1:
        raise ValueError(f"workers is 1 or more, not {workers}")
    if workers > 1 and (options.get("admin_token") or options.get("admin_listen")):
        raise ValueError(
            "administration would reach one of several workers only: change the file of the configuration and send "
            "SIGHUP, which reaches all, or serve with one worker"
        )
    if workers > 1:
        return _serve_workers(model, listen, on_ready, workers, options)

    async def main() -> bool:
        return await make_app(model, listen=listen, **options).run(on_ready)

    with asyncio.Runner(loop_factory=new_event_loop) as runner:
        return runner.run(main())


def _serve_workers(
    model: Any,
    listen: str | Sequence[str],
    on_ready: Callable[[App], None] | None,
    workers: int,
    options: dict[str, Any],
) -> bool:
    mode = options.pop("socket_mode", None)
    shared = Limits(memory_limit=options.pop("memory_limit", Limits().memory_limit))
    options["memory_limit"] = max(shared.memory_limit // workers, 1)
    options["model_memory"] = options.get("model_memory", 0) // workers
    tls = _tls(options.get("tls_cert"), options.get("tls_key"), options.get("tls_client_ca"))
    if tls is not None:
        tls.context()  # a mistake in it is better told once than by every worker
    addresses = [parse_address(text) for text in ([listen] if isinstance(listen, str) else listen)]
    opened: list[Listener] = []
    siblings = Siblings(workers)

    def work(number: int, first: bool, parent: socket.socket, ready: Callable[[], None]) -> bool:
        """The life of one worker, in its own process."""
        siblings.number = number
        places = [listener.share() for listener in opened]
        for listener in opened:
            if listener.reserved:
                listener.sock.close()

        def started(app: App) -> None:
            if first and on_ready is not None:
                on_ready(app)
            ready()

        async def main() -> bool:
            app = make_app(model, listen=places, siblings=siblings, **options)
            # While others accept, one whose models are still being loaded would only take connections from them.
            return await app.run(started, parent=parent, loaded_first=not first)

        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            finished = runner.run(main())
        if options.get("isolate"):
            _end_isolated()
        return finished

    def close() -> None:
        # Before the workers: a connection in a queue that only this process still holds would wait for nobody.
        for listener in opened:
            listener.unlink()
            listener.sock.close()

    try:
        for address in addresses:
            opened += reserve(address, socket_mode=mode)
        return Supervisor(work, workers, options.get("drain_timeout", 30.0), (signal.SIGHUP,), close).run()
    finally:
        close()
        siblings.close()


def _tls(cert: str | Path | None, key: str | Path | None, client_ca: str | Path | None) -> TlsFiles | None:
    if cert is None:
        if key is not None or client_ca is not None:
            raise ValueError("tls_key and tls_client_ca are of no use without tls_cert")
        return None
    return TlsFiles(Path(cert), None if key is None else Path(key), None if client_ca is None else Path(client_ca))


def _as_model(model: Any, engine: str | None, options: Mapping[str, Any] | None) -> Model:
    if isinstance(model, Model):
        return model
    if model is None or isinstance(model, str | Path):
        return open_model(model, engine=engine, options=options)
    return as_model(model, options)


def _cached(loaded: Model, model: Any, options: Mapping[str, Any] | None, folder: Path) -> Model:
    from tensorwire.servers.scheduling.row_cache import LARGEST, CachedModel, identity
    from tensorwire.servers.scheduling.row_store import RowStore

    try:
        path = Path(model) if isinstance(model, str | Path) else None
        if path is None or not path.exists():
            raise ModelError("results can be kept for a model of a file or folder alone")
        store = RowStore(folder, size=LARGEST)
        try:
            return CachedModel(loaded, store, identity(path, options or {}, loaded.engine))
        except OSError as error:
            store.close()
            raise ModelError(f"{path}: cannot be read again, to know its results by: {error}") from None
    except BaseException:
        loaded.close()
        raise


def _isolated(
    model: Any, engine: str | None, options: Mapping[str, Any] | None, memory: int, timeout: float | None
) -> Model:
    if not sys.platform.startswith("linux"):
        raise ModelError("a model in a process of its own needs Linux")
    from tensorwire.servers.isolation.model import IsolatedModel
    from tensorwire.servers.isolation.target import make_target

    return IsolatedModel(make_target(model, engine, options, memory), timeout=timeout)


def _isolated_version(memory: int, timeout: float | None, path: Path, config: ModelConfig) -> Model:
    return _isolated(path, config.engine, config.options, memory, timeout)


def _end_isolated() -> None:
    from tensorwire.servers.isolation.model import end_all

    end_all()


def _versioned(model: Any, name: str, engine: str | None, options: Mapping[str, Any] | None) -> RepositoryConfig | None:
    """The configuration of a URL or a base path with numbered versions; None when the model is something else."""
    return only_model(model, name, engine, options) if is_base_path(model) else None


def is_base_path(model: Any) -> bool:
    """It is a URL, or a folder of numbered versions."""
    if not isinstance(model, str | Path):
        return False
    if is_remote(str(model)):
        return True
    base = Path(model).expanduser().absolute()
    return base.is_dir() and bool(numbered(base))
