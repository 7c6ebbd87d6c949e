"""``tensorwire config``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from tensorwire.servers.commands.values import UserError, shown
from tensorwire.servers.engines.registry import is_model
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.config_file import read_config
from tensorwire.servers.repository.drivers import missing_driver
from tensorwire.servers.repository.layout import find_versions
from tensorwire.servers.repository.source import is_remote
from tensorwire.servers.repository.sts_file import sts_remarks, write_sts
from tensorwire.servers.repository.tfs_file import tfs_remarks, write_tfs
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
    """The formats that are read and written."""

    TOML = "toml"
    TFS = "tfs"
    STS = "sts"


def _no_remarks(config: RepositoryConfig) -> list[str]:
    """Ours can say all."""
    return []


_WRITERS: dict[Format, tuple[Callable[[RepositoryConfig], str], Callable[[RepositoryConfig], list[str]]]] = {
    Format.TOML: (write_toml, _no_remarks),
    Format.TFS: (write_tfs, tfs_remarks),
    Format.STS: (write_sts, sts_remarks),
}
"""What writes a format, and what tells of that which it cannot say."""


File = Annotated[Path, typer.Argument(metavar="FILE", help="A configuration of models.")]
Kind = Annotated[
    Format | None,
    typer.Option(
        "--format",
        help="toml: ours; tfs: TensorFlow Serving's text; sts: simple_tensorflow_serving's JSON. Default: found.",
    ),
]


def check(file: File, kind: Kind = None) -> None:
    """Read a configuration as the server would, and show what it says; every mistake is told with its line."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    try:
        config = read_config(file, kind)
    except ConfigError as error:
        for mistake in error.mistakes:
            _tell(str(mistake))
        raise typer.Exit(2) from None
    table = Table()
    for title in ("model", "path", "engine", "versions", "labels", "besides"):
        table.add_column(title, overflow="fold")
    remarks = list(config.remarks)
    missing = 0
    for model in config.models:
        wrong = _wrong(model.path)
        missing += bool(wrong)
        labels = ", ".join(f"{label}={number}" for label, number in model.labels.items())
        name = model.name + (" (default)" if model.name == (config.default or config.models[0].name) else "")
        path = model.path + (f" ({wrong})" if wrong else "")
        cells = (name, path, model.engine or "by its files", _versions(model), labels, _besides(model))
        table.add_row(*(Text(shown(cell)) for cell in cells))
        remarks += _label_remarks(model)
    console = Console(highlight=False)
    console.print(table)
    for remark in remarks:
        console.print(Text(shown(remark)))
    console.print(
        f"{len(config.models)} models{f', {missing} base paths cannot be read' if missing else ''}: no mistakes"
    )


def convert(
    file: File,
    kind: Kind = None,
    to: Annotated[Format, typer.Option(help="The format to write.")] = Format.TOML,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write here. Default: standard output.")
    ] = None,
) -> None:
    """Write a configuration in another format; what that cannot say is told."""
    config = read_config(file, kind)
    write, remarks = _WRITERS[to]
    text = write(config)
    for remark in (*config.remarks, *remarks(config)):
        _tell(remark)
    if output is None:
        print(text, end="")
        return
    if output.exists():
        raise UserError(f"{output} exists: remove it first, or give another --output")
    output.write_text(text)
    print(f"{output}: {len(config.models)} models")


def _tell(text: str) -> None:
    print(shown(" ".join(text.split())), file=sys.stderr)


def _label_remarks(model: ModelConfig) -> list[str]:
    """Labels of versions that would not be served now; a version may come, so they are no mistakes."""
    if not model.labels or is_remote(model.path):
        return []
    try:
        found = find_versions(Path(model.path).expanduser(), is_model)
    except OSError:
        return []
    served = model.policy.choose(found)
    are = ", ".join(map(str, served)) or "none"
    return [
        f"model {model.name!r}: label {label!r}: version {number} is not served now: there are {are}"
        for label, number in model.labels.items()
        if number not in served
    ]


def _besides(model: ModelConfig) -> str:
    """What has a value that models usually do not have, as in TOML; options by their names only."""
    usual = ModelConfig(name=model.name, path=model.path)
    found = [f"options {', '.join(model.options)}"] if model.options else []
    if model.traffic.weights:
        found.append("traffic " + " ".join(f"{name}={weight:g}" for name, weight in model.traffic.weights.items()))
    if model.shadow is not None:
        found.append(f"shadow {model.shadow.to}")
    for name in ("ready_file", "settle", "transition", "attempts", "warm_up", "pinned"):
        value = getattr(model, name)
        if value != getattr(usual, name):
            found.append(f"{name} {str(value).lower() if isinstance(value, bool) else value}")
    return "; ".join(found)


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
