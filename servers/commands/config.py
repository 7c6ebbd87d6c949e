"""``tensorwire config``."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tensorwire.servers.commands.values import UserError, shown
from tensorwire.servers.repository.config import ModelConfig, VersionPolicy
from tensorwire.servers.repository.config_file import read_config
from tensorwire.servers.repository.drivers import missing_driver
from tensorwire.servers.repository.source import is_remote
from tensorwire.servers.repository.tfs_file import write_tfs
from tensorwire.servers.repository.toml_file import write_toml

__all__ = ["EXAMPLES_CHECK", "EXAMPLES_CONVERT", "check", "convert"]

EXAMPLES_CHECK = """Examples:

    tensorwire config check models.toml

    tensorwire config check model_config.txt --format tfs
"""
EXAMPLES_CONVERT = """Examples:

    tensorwire config convert model_config.txt

    tensorwire config convert models.json --output models.toml
"""


class Format(StrEnum):
    """The formats that are read."""

    TOML = "toml"
    TFS = "tfs"
    STS = "sts"


class Target(StrEnum):
    """The formats that are written."""

    TOML = "toml"
    TFS = "tfs"


File = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration of models.")]
Kind = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="toml: ours; tfs: TensorFlow Serving's text; sts: simple_tensorflow_serving's JSON. Default: found.",
    ),
]


def check(file: File, kind: Kind = None) -> None:
    """Read a configuration as the server would, and show what it says; a mistake is told with its line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    config = read_config(file, kind)
    table = Table()
    for title in ("model", "path", "engine", "versions", "labels"):
        table.add_column(title, overflow="fold")
    missing = 0
    for model in config.models:
        wrong = _wrong(model.path)
        missing += bool(wrong)
        labels = ", ".join(f"{label}={number}" for label, number in model.labels.items())
        name = model.name + (" (default)" if model.name == (config.default or config.models[0].name) else "")
        path = model.path + (f" ({wrong})" if wrong else "")
        cells = (name, path, model.engine or "by its files", _versions(model), labels)
        table.add_row(*(Text(shown(cell)) for cell in cells))
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"{len(config.models)} models{f', {missing} base paths cannot be read' if missing else ''}: no mistakes"
    )


def convert(
    file: File,
    kind: Kind = None,
    to: Annotated[Target, typer.Option(help="The format to write.")] = Target.TOML,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here. Default: standard output.")
    ] = None,
) -> None:
    """Write a configuration in another format."""
    config = read_config(file, kind)
    text = write_toml(config) if to is Target.TOML else write_tfs(config)
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UserError(f"{output} exists: remove it first, or give another --output")
    output.write_text(text)
    print(f"{output}: {len(config.models)} models")


def _wrong(path: str) -> str:
    """Why a base path cannot be read, as far as that is known without asking a network."""
    if is_remote(path):
        return missing_driver(path)
    return "" if Path(path).expanduser().exists() else "not there"


def _versions(model: ModelConfig) -> str:
    policy: VersionPolicy = model.policy
    if policy.specific:
        return ", ".join(map(str, policy.specific))
    return "all" if not policy.latest else "latest" if policy.latest == 1 else f"latest {policy.latest}"
