"""The flags and environment variables that GraphPipe's own servers share, for commands that stand in for them.

Of https://github.com/oracle/graphpipe-go, cmd/graphpipe-tf and cmd/graphpipe-onnx. A flag wins over its variable, and
that over the default.
"""

from __future__ import annotations

import hashlib
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import tensorwire
from tensorwire.servers.commands.startup import banner, check_addresses, raise_descriptor_limit, set_up_logging
from tensorwire.servers.commands.values import UserError, size_text
from tensorwire.servers.repository.download import fetch, is_url, plain_url

if TYPE_CHECKING:
    from tensorwire.servers.app import App

__all__ = ["Cache", "CacheDir", "Listen", "Verbose", "Version", "cache_wanted", "local_file", "prepare", "serve_file"]

_TRUE = ("1", "t", "true", "y", "yes", "on")
_FALSE = ("0", "f", "false", "n", "no", "off")

_log = logging.getLogger("tensorwire.model")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"version {tensorwire.__version__}")
        raise typer.Exit


Listen = Annotated[
    str,
    typer.Option("--listen", "-l", metavar="ADDRESS", help="host:port; 0.0.0.0:9000 is open to the network."),
]
Cache = Annotated[
    bool,
    typer.Option(
        "--cache",
        "-c",
        help="Keep results row by row in --cache-dir, for models whose rows do not depend on each other. "
        "[env var: GP_CACHE]",
    ),
]
CacheDir = Annotated[
    Path,
    typer.Option(
        "--cache-dir", "--dir", "-d", metavar="FOLDER", help="Where models from URLs and --cache's results are kept."
    ),
]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log more, and a line for each request.")]
Version = Annotated[
    bool, typer.Option("--version", "-V", help="Show the version.", is_eager=True, callback=_print_version)
]


def local_file(text: str, cache_dir: Path) -> Path:
    """The file that a flag names: a path, or an http(s) URL whose file is fetched into ``cache_dir`` first.

    A file's SHA-256 is logged, wherever it is from; a folder has none. Raises UserError for a path that does not exist,
    ModelError for a failed download.
    """
    if not is_url(text):
        path = Path(text).expanduser()
        if not path.exists():
            raise UserError(f"no such file: {text}")
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            _log.info("%s: %s, SHA-256 %s", path, size_text(path.stat().st_size), digest)
        return path
    with _Meter() as meter:
        found = fetch(text, cache_dir.expanduser(), progress=meter.show)
    _log.info("%s: %s, %s, SHA-256 %s", plain_url(text), found.how, size_text(found.nbytes), found.sha256)
    if found.how == "not checked":
        _log.warning("%s could not be reached: its kept copy is served", plain_url(text))
    return found.path


def cache_wanted(flag: bool) -> bool:
    """--cache, or GP_CACHE in its stead. What is neither true nor false counts as false, as in the original, and is
    told; so it is to be called once logging is set up.
    """
    text = os.environ.get("GP_CACHE", "")
    if flag or not text:
        return flag
    if text.lower() not in (*_TRUE, *_FALSE):
        _log.warning("GP_CACHE is neither true nor false but %r: results are not kept", text)
    return text.lower() in _TRUE


def serve_file(path: Path, *, engine: str, options: Mapping[str, Any], listen: str, cache: Path | None) -> None:
    """Serve a model until SIGTERM or Ctrl-C; ``cache`` is the folder where its results are kept.

    Raises ModelError and ListenError, typer.Exit when it was cut short.
    """
    from tensorwire.servers.app import serve_model

    raise_descriptor_limit()

    def on_ready(app: App) -> None:
        print(banner(app), flush=True)

    folder = None if cache is None else cache.expanduser()
    if not serve_model(path, listen=listen, engine=engine, engine_options=options, on_ready=on_ready, cache_dir=folder):
        raise typer.Exit(1)


def prepare(listen: str, verbose: bool) -> None:
    """Check the address and set up logging: before a model is fetched or loaded. Raises UserError."""
    check_addresses([listen])
    set_up_logging(logging.DEBUG if verbose else logging.INFO, access_log=verbose)


class _Meter:
    """A bar of a download on a terminal, or nothing."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> _Meter:
        if sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, DownloadColumn, Progress, TransferSpeedColumn

            self._bar = Progress(
                BarColumn(), DownloadColumn(), TransferSpeedColumn(), console=Console(stderr=True), transient=True
            )
            self._task = self._bar.add_task("")
            self._bar.start()
        return self

    def show(self, done: int, expected: int | None) -> None:
        if self._bar is not None:
            self._bar.update(self._task, completed=done, total=expected)

    def __exit__(self, *error: object) -> None:
        if self._bar is not None:
            self._bar.stop()
