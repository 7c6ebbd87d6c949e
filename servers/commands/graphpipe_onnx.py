"""``tensorwire-onnx``: the flags and environment variables of GraphPipe's graphpipe-onnx, on ONNX Runtime.

Of https://github.com/oracle/graphpipe-go, cmd/graphpipe-onnx.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

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

__all__ = ["app", "main", "serve_onnx"]

EXAMPLES = """Examples:

    tensorwire-onnx --model squeezenet.onnx --value-inputs squeezenet.value_inputs.json

    tensorwire-onnx --model https://example.com/model.onnx --listen 0.0.0.0:9000

    tensorwire-onnx --init-net init_net.pb --predict-net predict_net.pb --value-inputs value_inputs.json
"""

app = typer.Typer(
    name="tensorwire-onnx",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.command(epilog=EXAMPLES)
def serve_onnx(
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", envvar="GP_MODEL", metavar="FILE|URL", help="ONNX model."),
    ] = None,
    init_net: Annotated[
        str | None,
        typer.Option(
            "--init-net",
            "--init_net",
            envvar="GP_INIT_NET",
            metavar="FILE|URL",
            help="Caffe2's init net; with --predict-net.",
        ),
    ] = None,
    predict_net: Annotated[
        str | None,
        typer.Option(
            "--predict-net",
            "--predict_net",
            envvar="GP_PREDICT_NET",
            metavar="FILE|URL",
            help="Caffe2's predict net; with --init-net.",
        ),
    ] = None,
    value_inputs: Annotated[
        str | None,
        typer.Option(
            "--value-inputs",
            "--value_inputs",
            envvar="GP_VALUE_INPUTS",
            metavar="FILE|URL",
            help='Types and shapes of the inputs, as JSON: {"data": [1, [1, 3, 227, 227]]}. An ONNX model has its own; '
            "sizes given here count.",
        ),
    ] = None,
    engine_count: Annotated[
        int,
        typer.Option(
            "--engine-count",
            "--engine_count",
            envvar="GP_ENGINE_COUNT",
            min=1,
            max=32,
            metavar="N",
            help="Requests that run at once.",
        ),
    ] = 1,
    disable_cuda: Annotated[
        bool, typer.Option("--disable-cuda", "--disable_cuda", help="Run on the CPU even where CUDA would start.")
    ] = False,
    profile: Annotated[
        str | None, typer.Option(metavar="PREFIX", help="Write ONNX Runtime's profile to a file of this prefix.")
    ] = None,
    listen: Listen = "127.0.0.1:9000",
    cache: Cache = False,
    cache_dir: CacheDir = Path("~/.graphpipe"),
    verbose: Verbose = False,
    version: Version = False,
) -> None:
    """Serve an ONNX model, or a Caffe2 pair, with GraphPipe's protocol."""
    if (model is None) == (init_net is None and predict_net is None):
        raise UserError("either --model (GP_MODEL), or --init-net (GP_INIT_NET) and --predict-net (GP_PREDICT_NET)")
    if (init_net is None) != (predict_net is None):
        raise UserError("--init-net and --predict-net are a pair: the weights and the net")
    prepare(listen, verbose)
    keep = cache_wanted(cache)
    options: dict[str, Any] = {"concurrency": engine_count, "device": "cpu" if disable_cuda else "auto"}
    if profile is not None:
        options["profile"] = profile
    if value_inputs is not None:
        options["value_inputs"] = str(local_file(value_inputs, cache_dir))
    if init_net is not None:
        options["init_net"] = str(local_file(init_net, cache_dir))
    path = local_file(str(model or predict_net), cache_dir)
    engine = "onnx" if model else "caffe2"
    serve_file(path, engine=engine, options=options, listen=listen, cache=cache_dir if keep else None)


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (default: sys.argv[1:]); returns the exit code."""
    return run_program(app, "tensorwire-onnx", args)
