"""Options of the commands that ask a server: which one they trust, and what they show it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypedDict

import typer

from tensorwire.servers.commands.admin_client import read_token
from tensorwire.servers.commands.values import UserError

__all__ = ["Ca", "Cert", "ClientOptions", "Key", "TokenFile", "client_options"]

Ca = Annotated[
    Path | None,
    typer.Option("--ca", metavar="PATH", help="Trust the authorities in this file (PEM) or folder, not the system's."),
]
Cert = Annotated[
    Path | None,
    typer.Option(
        "--cert", metavar="FILE", help="Certificate to show to the server (PEM); it may hold the key as well."
    ),
]
Key = Annotated[Path | None, typer.Option("--key", metavar="FILE", help="The key of --cert (PEM).")]
TokenFile = Annotated[
    Path | None, typer.Option("--token-file", metavar="FILE", help="Send the bearer token in this file.")
]


class ClientOptions(TypedDict, total=False):
    """Those of ``tensorwire.Client`` that the options stand for."""

    verify: str
    cert: str | tuple[str, str]
    token: str


def client_options(ca: Path | None, cert: Path | None, key: Path | None, token_file: Path | None) -> ClientOptions:
    """Raises UserError for a file that is not there, and for a key without its certificate."""
    for option, path in (("--ca", ca), ("--cert", cert), ("--key", key)):
        if path is not None and not path.exists():
            raise UserError(f"{option}: no such file: {path}")
    if key is not None and cert is None:
        raise UserError("--key is of no use without --cert")
    options = ClientOptions()
    if ca is not None:
        options["verify"] = str(ca)
    if cert is not None:
        options["cert"] = str(cert) if key is None else (str(cert), str(key))
    if token_file is not None:
        options["token"] = read_token(token_file)
    return options
