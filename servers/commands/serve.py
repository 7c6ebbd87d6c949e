"""``tensorwire serve``."""

from __future__ import annotations

import logging
import math
import re
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tensorwire.servers.commands.admin_client import read_token
from tensorwire.servers.commands.model_options import (
    AllowPickle,
    CustomOps,
    Device,
    EngineName,
    EngineOption,
    Inputs,
    Outputs,
    Threads,
    engine_options,
)
from tensorwire.servers.commands.startup import (
    banner,
    base_path_config,
    check_addresses,
    raise_descriptor_limit,
    set_up_logging,
)
from tensorwire.servers.commands.values import UserError, parse_size

if TYPE_CHECKING:
    from tensorwire.servers.app import App
    from tensorwire.servers.repository.config import RepositoryConfig

_log = logging.getLogger("tensorwire.serve")

EXAMPLES = """Examples:

    tensorwire serve

    tensorwire serve model.onnx --listen 0.0.0.0:9000

    tensorwire serve model.onnx --listen unix:/run/model.sock

    tensorwire serve model.onnx --max-body 1GiB --threads 4 --no-access-log

    tensorwire serve model.onnx --workers 4 --tls-cert server.pem --tls-key server.key

    tensorwire serve my_module:predict

    tensorwire serve my_module:Classifier --option threshold=0.7

    tensorwire serve model.onnx --isolate --isolate-memory 4GiB --request-timeout 30

    tensorwire serve /srv/models/digits --name digits

    tensorwire serve s3://bucket/models/digits --poll 60

    tensorwire serve --config models.toml

    tensorwire serve --config models.toml --reload off

    tensorwire serve --config models.toml --admin-listen unix:/run/models.admin

    tensorwire serve --config models.toml --model-memory 8GiB --on-demand

    tensorwire serve --echo
"""


class Reload(StrEnum):
    """When base paths are looked at again."""

    WATCH = "watch"
    POLL = "poll"
    OFF = "off"


def serve(
    path: Annotated[
        str | None,
        typer.Argument(
            metavar="PATH|URL|MODULE:NAME",
            help="Model file or folder, here or at a URL, or a function or class of a Python module. Without it: a "
            "small classifier of digits.",
        ),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            "--config",
            "--model_config_file",
            metavar="FILE",
            help="Serve the models of a configuration: our TOML, TensorFlow Serving's text or "
            "simple_tensorflow_serving's JSON. SIGHUP reads it again.",
        ),
    ] = None,
    model_base_path: Annotated[
        str | None,
        typer.Option(
            "--model_base_path",
            metavar="DIR|URL",
            help="TensorFlow Serving's flag for PATH. A folder without a version, or that is not there yet, is waited "
            "for. Ignored with --config, as there.",
        ),
    ] = None,
    model_name: Annotated[
        str, typer.Option("--model_name", "--name", metavar="NAME", help="The model's name. Default: its file's.")
    ] = "",
    poll: Annotated[
        float,
        typer.Option(
            "--poll",
            "--file_system_poll_wait_seconds",
            metavar="SECONDS",
            help="Time between two looks at base paths that the system does not watch. 0 or less: look at the start "
            "only.",
        ),
    ] = 1.0,
    reload: Annotated[
        Reload,
        typer.Option(
            help="When base paths are looked at again. watch: when the system tells of a change, else every --poll; "
            "poll: every --poll only; off: when told to only, by SIGHUP or `tensorwire models`."
        ),
    ] = Reload.WATCH,
    admin_token_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Let those who send the token in this file load, unload and label models: see `tensorwire models`. "
            "Default: nobody.",
        ),
    ] = None,
    admin_listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="Where they do so, instead of on --listen: host:port, or unix:/path, which is this user's alone and "
            "needs no token. May be repeated.",
        ),
    ] = None,
    model_memory: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Memory that all models may take together; one that does not fit is refused. Default: any.",
        ),
    ] = None,
    model_cache: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Where files of models from URLs are kept. Default: tensorwire in the user's caches."
        ),
    ] = None,
    on_demand: Annotated[
        bool,
        typer.Option(
            "--on-demand",
            help="With --model-memory: the model that was not used for longest makes room, and is loaded again when it "
            "is asked for.",
        ),
    ] = False,
    echo: Annotated[
        bool, typer.Option("--echo", help="Serve the identity: tensors come back as they were sent.")
    ] = False,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="host:port, [IPv6]:port, unix:/path, or systemd for the sockets of a .socket unit; may be "
            "repeated. Port 0: any free port. Default: 127.0.0.1:9000.",
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option(min=1, metavar="N", help="Processes that share the addresses, each with the model.")
    ] = 1,
    tls_cert: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Certificate chain (PEM): TCP addresses speak TLS. SIGHUP reads it again."),
    ] = None,
    tls_key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The certificate's key. Default: in --tls-cert.")
    ] = None,
    tls_client_ca: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Serve only clients with a certificate signed by this one.")
    ] = None,
    socket_mode: Annotated[
        str | None, typer.Option(metavar="MODE", help="Permissions of UNIX sockets, such as 660. Default: the umask's.")
    ] = None,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest request body: 1GiB, 500MB or a number of bytes.")
    ] = "512MiB",
    max_head: Annotated[str, typer.Option(metavar="SIZE", help="Largest head of a request.")] = "16KiB",
    memory_limit: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="Request bodies in memory at a time; more wait unread. While as much of answers waits for clients to "
            "read them, requests are refused (503). Default: half of the machine's memory, at most 4GiB.",
        ),
    ] = None,
    max_waiting: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests that may wait for memory; more are refused (503).")
    ] = 256,
    max_queue: Annotated[
        int, typer.Option(min=0, metavar="N", help="Requests that may wait for the model; more are refused (503).")
    ] = 1024,
    max_connections: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Connections open at a time, of each worker; more are refused (503). Default: what the limit of "
            "descriptors allows.",
        ),
    ] = None,
    head_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time for a request's head, and for TLS to be agreed on.")
    ] = 20.0,
    body_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time without progress of a body, or of an answer being read.")
    ] = 60.0,
    min_rate: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Bytes a second of a body, or of an answer being read, after --body-timeout. 0: any."
        ),
    ] = "16KiB",
    idle_timeout: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time that a connection may wait for its next request.")
    ] = 75.0,
    request_timeout: Annotated[
        float | None,
        typer.Option(
            metavar="SECONDS", help="Time from a request's head to its answer; then 504. Default: the request's own."
        ),
    ] = None,
    pool_idle: Annotated[
        float, typer.Option(metavar="SECONDS", help="Time after which memory that nobody uses is given back.")
    ] = 30.0,
    drain_timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Time for requests in flight when stopping.")
    ] = 30.0,
    isolate: Annotated[
        bool,
        typer.Option("--isolate", help="Run the model in a process of its own: a crash costs only its own requests."),
    ] = False,
    isolate_memory: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="With --isolate: memory that this process may take. Default: no limit."),
    ] = None,
    threads: Threads = None,
    device: Device = None,
    engine: EngineName = None,
    option: EngineOption = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    custom_op_path: CustomOps = None,
    allow_pickle: AllowPickle = False,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
    access_log: Annotated[bool, typer.Option(help="One line on standard error for each request.")] = True,
) -> None:
    """Serve a model until it is stopped with Ctrl-C or SIGTERM."""
    from tensorwire.servers.app import is_base_path, serve_model
    from tensorwire.servers.engines.echo import EchoModel

    options = engine_options(
        option,
        threads=threads,
        device=device,
        inputs=inputs,
        outputs=outputs,
        custom_ops=custom_op_path,
        allow_pickle=allow_pickle,
    )
    if echo and (path or engine or options):
        raise UserError("--echo is a model of its own: it takes no PATH, and no option of how to load one")
    if path is not None and model_base_path is not None:
        raise UserError("--model_base_path is another way to give PATH: give one")
    if config is not None and (path or echo or engine or options):
        raise UserError("--config says which models there are, and how they are loaded: no PATH or other option does")
    if echo and model_base_path is not None:
        raise UserError("--echo is a model of its own: it takes no --model_base_path")
    ignored = config is not None and bool(model_base_path or model_name)
    source: Path | RepositoryConfig | None = config
    if config is None and model_base_path is not None:
        source = base_path_config(model_base_path, model_name, engine, options)
        path = model_base_path if source is None else None
    if source is None and not is_base_path(path):
        _check_single(admin_token_file, admin_listen, model_memory)
    if (admin_token_file is not None or admin_listen) and workers > 1:
        raise UserError(
            "--admin-token-file, --admin-listen: administration would reach one of several --workers only: instead, "
            "change the file of --config and send SIGHUP, which reaches all; or serve with one worker"
        )
    check_addresses(listen or ())
    check_addresses(admin_listen or (), "--admin-listen")
    if on_demand and model_memory is None:
        raise UserError("--on-demand needs --model-memory: who would have to make room?")
    if isolate_memory is not None and not isolate:
        raise UserError("--isolate-memory needs --isolate")
    if echo and isolate:
        raise UserError("--echo does not crash: it takes no --isolate")
    limits: dict[str, int] = {}
    if memory_limit is not None:
        limits["memory_limit"] = parse_size(memory_limit, "--memory-limit")
    if max_connections is not None:
        limits["max_connections"] = max_connections
    if tls_cert is None and (tls_key or tls_client_ca):
        raise UserError("--tls-key and --tls-client-ca need --tls-cert")
    raise_descriptor_limit()
    set_up_logging(logging.WARNING if quiet else logging.INFO, access_log and not quiet)
    if ignored:
        _log.warning("--model_name and --model_base_path are ignored: --config says which models there are")

    def on_ready(app: App) -> None:
        if not quiet:
            embedded = path is None and not (echo or source)
            print(banner(app, "embedded: no model was named" if embedded else ""), flush=True)

    finished = serve_model(
        EchoModel() if echo else path,
        listen=listen or "127.0.0.1:9000",
        workers=workers,
        tls_cert=tls_cert,
        tls_key=tls_key,
        tls_client_ca=tls_client_ca,
        socket_mode=_mode(socket_mode),
        max_body=parse_size(max_body, "--max-body"),
        max_head=parse_size(max_head, "--max-head"),
        max_waiting=max_waiting,
        max_queue=max_queue,
        head_timeout=_seconds(head_timeout, "--head-timeout"),
        body_timeout=_seconds(body_timeout, "--body-timeout"),
        min_rate=0 if min_rate == "0" else parse_size(min_rate, "--min-rate"),
        idle_timeout=_seconds(idle_timeout, "--idle-timeout"),
        request_timeout=None if request_timeout is None else _seconds(request_timeout, "--request-timeout"),
        pool_idle=_seconds(pool_idle, "--pool-idle"),
        drain_timeout=drain_timeout,
        isolate=isolate,
        isolate_memory=0 if isolate_memory is None else parse_size(isolate_memory, "--isolate-memory"),
        engine=engine,
        engine_options=options,
        name=model_name,
        config=source,
        poll=0.0 if reload is Reload.OFF else _poll(poll),
        watch=reload is Reload.WATCH,
        admin_token=read_token(admin_token_file),
        admin_listen=admin_listen or (),
        model_memory=0 if model_memory is None else parse_size(model_memory, "--model-memory"),
        on_demand=on_demand,
        model_cache=model_cache,
        on_ready=on_ready,
        **limits,
    )
    if not finished:
        raise typer.Exit(1)


def _mode(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch("0?[0-7]{3}", text):
        raise UserError(f"--socket-mode: {text!r} is not three octal digits such as 660")
    return int(text, 8)


def _check_single(admin_token_file: Path | None, admin_listen: list[str] | None, model_memory: str | None) -> None:
    """Refuse what is of use only where models come and go."""
    options = {"--admin-token-file": admin_token_file, "--admin-listen": admin_listen, "--model-memory": model_memory}
    for option, value in options.items():
        if value:
            raise UserError(f"{option} is for models of --config or of a folder with numbered versions")


def _poll(value: float) -> float:
    if not math.isfinite(value):
        raise UserError(f"--poll is a number of seconds, not {value:g}")
    return max(value, 0.0)


def _seconds(value: float, option: str) -> float:
    if not value > 0:
        raise UserError(f"{option} must be above 0, is {value:g}")
    return value
