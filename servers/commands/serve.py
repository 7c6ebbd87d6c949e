"""``tensorwire serve``."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tensorwire.servers.commands.values import UserError, parse_size, shown, spec_text

if TYPE_CHECKING:
    from tensorwire.servers.app import App

EXAMPLES = """Examples:

    tensorwire serve

    tensorwire serve model.onnx --listen 0.0.0.0:9000

    tensorwire serve model.onnx --listen unix:/run/model.sock

    tensorwire serve model.onnx --max-body 1GiB --threads 4 --no-access-log
"""


def serve(
    path: Annotated[
        Path | None,
        typer.Argument(
            metavar="PATH", help="Model file or folder. Without it: a small classifier of digits."
        ),
    ] = None,
    listen: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ADDRESS",
            help="host:port, [IPv6]:port or unix:/path; may be repeated. Port 0: any free port. "
            "Default: 127.0.0.1:9000.",
        ),
    ] = None,
    max_body: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest request body: 1GiB, 500MB or a number of bytes.")
    ] = "512MiB",
    drain_timeout: Annotated[
        float, typer.Option(min=0.0, metavar="SECONDS", help="Time for requests in flight when stopping.")
    ] = 30.0,
    threads: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Threads of one model run. Default: the engine's.")
    ] = None,
    engine: Annotated[
        str | None, typer.Option(metavar="NAME", help="What runs the model. Default: found by the file.")
    ] = None,
    option: Annotated[
        list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the engine; may be repeated.")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print warnings and errors only.")] = False,
    access_log: Annotated[bool, typer.Option(help="One line on standard error for each request.")] = True,
) -> None:
    """Serve a model until it is stopped with Ctrl-C or SIGTERM."""
    from tensorwire.servers.address import parse_address
    from tensorwire.servers.app import serve_model

    for address in listen or ():
        try:
            parse_address(address)
        except ValueError as error:
            raise UserError(f"--listen: {error}") from None
    engine_options: dict[str, Any] = dict(map(_key_value, option or ()))
    if threads is not None:
        engine_options["intra_op_num_threads"] = threads
    _set_up_logging(quiet, access_log)

    def on_ready(app: App) -> None:
        if not quiet:
            print(_banner(app, path), flush=True)

    finished = serve_model(
        path,
        listen=listen or "127.0.0.1:9000",
        max_body=parse_size(max_body, "--max-body"),
        drain_timeout=drain_timeout,
        engine=engine,
        engine_options=engine_options,
        on_ready=on_ready,
    )
    if not finished:
        raise typer.Exit(1)


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"--option: {text!r} is not KEY=VALUE")
    return key, value


def _banner(app: App, path: Path | None) -> str:
    metadata = app.service.metadata()
    inputs = ", ".join(spec_text(spec) for spec in metadata.inputs)
    outputs = ", ".join(spec_text(spec) for spec in metadata.outputs)
    named = "" if path else ", embedded: no model was named"
    about = f"{shown(metadata.name)} ({app.service.models[0].engine}{named})"
    return f"listening on {' '.join(app.urls)} (Ctrl-C to stop)\nserving {about}: {inputs} -> {outputs}"


def _set_up_logging(quiet: bool, access_log: bool) -> None:
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.WARNING if quiet else logging.INFO,
        format="%(asctime)s %(levelname)s %(message)s",
    )
    if quiet or not access_log:
        logging.getLogger("tensorwire.access").setLevel(logging.WARNING)
