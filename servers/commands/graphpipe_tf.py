"""``tensorwire-tf``: the command line of GraphPipe's TensorFlow server, graphpipe-tf."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from tensorwire.servers.commands.graphpipe_flags import (
    Cache,
    CacheDir,
    Listen,
    Verbose,
    Version,
    cache_wanted,
    local_file,
    prepare,
    serve_file,
)
from tensorwire.servers.commands.program import run_program
from tensorwire.servers.commands.values import UserError

__all__ = ["main"]

EXAMPLES = """Examples:

    tensorwire-tf --model graph.pb

    tensorwire-tf --model saved_model/ --listen 0.0.0.0:9000

    tensorwire-tf --model https://example.com/graph.pb --inputs image --outputs label,score

    GP_MODEL=graph.pb GP_OUTPUTS=label tensorwire-tf
"""

app = typer.Typer(
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=EXAMPLES)
def serve(
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            envvar="GP_MODEL",
            metavar="PATH|URL",
            help="Frozen graph or other model file, SavedModel folder, or http(s) URL of a file; #sha256=... at the "
            "URL's end is checked.",
        ),
    ] = "",
    inputs: Annotated[
        str,
        typer.Option(
            "--inputs", "-i", envvar="GP_INPUTS", metavar="NAME,...", help="Inputs. Default: the graph's placeholders."
        ),
    ] = "",
    outputs: Annotated[
        str,
        typer.Option(
            "--outputs", "-o", envvar="GP_OUTPUTS", metavar="NAME,...", help="Outputs. Default: what nothing consumes."
        ),
    ] = "",
    listen: Listen = "127.0.0.1:9000",
    cache: Cache = False,
    cache_dir: CacheDir = Path("~/.graphpipe"),
    verbose: Verbose = False,
    version: Version = False,
) -> None:
    """Serve a TensorFlow model, with the flags of graphpipe-tf; tensorwire serve has more of them."""
    if not model:
        raise UserError("--model or GP_MODEL must say which model to serve")
    prepare(listen, verbose)
    keep = cache_wanted(cache)
    options = {name: value for name, value in (("inputs", inputs), ("outputs", outputs)) if value}
    path = local_file(model, cache_dir)
    serve_file(path, engine="tensorflow", options=options, listen=listen, cache=cache_dir if keep else None)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (default: sys.argv[1:]); returns the exit code."""
    return run_program(app, "tensorwire-tf", args)
