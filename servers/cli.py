"""The command ``tensorwire``. A user's error is one line on standard error, and exit code 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from tensorwire.servers.commands import bench, config, doctor, infer, inspection, models, serve, top, version
from tensorwire.servers.commands.program import run_program

__all__ = ["app", "main"]

app = typer.Typer(
    name="tensorwire",
    help="Serve models over GraphPipe's wire protocol, and talk to such servers.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=serve.EXAMPLES)(serve.serve)
app.command(epilog=infer.EXAMPLES)(infer.infer)
app.command(epilog=bench.EXAMPLES)(bench.bench)
app.command(epilog=doctor.EXAMPLES)(doctor.doctor)
app.command(epilog=top.EXAMPLES)(top.top)
app.command(name="inspect", epilog=inspection.EXAMPLES)(inspection.inspect)
app.command(epilog=version.EXAMPLES)(version.version)

_models = typer.Typer(help="See and change the models of a server.", epilog=models.EXAMPLES)
_models.command("list")(models.list_models)
for command in (models.load, models.unload, models.reload, models.label, models.traffic):
    _models.command()(command)
app.add_typer(_models, name="models")

_config = typer.Typer(help="Check and convert configurations of models.")
_config.command(epilog=config.EXAMPLES_CHECK)(config.check)
_config.command(epilog=config.EXAMPLES_CONVERT)(config.convert)
app.add_typer(_config, name="config")


def main(args: Sequence[str] | None = None) -> int:
    """Run the command line (default: sys.argv[1:]); returns the exit code."""
    args = sys.argv[1:] if args is None else args
    return run_program(app, "tensorwire", args or ["--help"])
