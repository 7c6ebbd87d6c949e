"""``tensorwire models``."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from tensorwire.servers.commands.admin_client import ask, read_token
from tensorwire.servers.commands.model_options import EngineName, EngineOption, engine_options
from tensorwire.servers.commands.values import UserError, shown

__all__ = ["EXAMPLES", "label", "label_remarks", "list_models", "load", "reload", "traffic", "unload"]

EXAMPLES = """Examples:

    tensorwire models list http://127.0.0.1:9000

    tensorwire models load http://127.0.0.1:9000 digits /srv/models/digits --token-file admin.token

    tensorwire models label http://127.0.0.1:9000 digits stable=3 canary=4 --token-file admin.token

    tensorwire models label http://127.0.0.1:9000 digits --none --token-file admin.token

    tensorwire models traffic http://127.0.0.1:9000 digits stable=95 canary=5 --token-file admin.token

    tensorwire models unload http://127.0.0.1:9000 digits --token-file admin.token
"""

_COMING = ("START", "LOADING", "AVAILABLE")

Url = Annotated[str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")]
Name = Annotated[str, typer.Argument(metavar="NAME", help="The model.")]
Token = Annotated[
    Path | None,
    typer.Option("--token-file", metavar="FILE", help="The token of the server's --admin-token-file."),
]
Ca = Annotated[
    Path | None,
    typer.Option(
        "--ca", metavar="FILE", help="Certificates (PEM) that an https server is known by. Default: the system's."
    ),
]


def list_models(url: Url, ca: Ca = None) -> None:
    """Show the models of a server, the states of their versions, and what went wrong."""
    answer = ask(url, "GET", "/v1/models", ca=ca)
    _print(answer["models"])
    if problem := answer.get("problem"):
        print(shown(problem))


def load(
    url: Url,
    name: Name,
    path: Annotated[str, typer.Argument(metavar="PATH", help="Its base path or file, as the server sees it.")],
    engine: EngineName = None,
    option: EngineOption = None,
    versions: Annotated[
        str | None,
        typer.Option(metavar="WHICH", help="latest, latest=2, all, or numbers: 1,3. Default: latest."),
    ] = None,
    labels: Annotated[
        list[str] | None, typer.Option("--label", metavar="LABEL=VERSION", help="A label; may be repeated.")
    ] = None,
    settle: Annotated[
        float | None,
        typer.Option(metavar="SECONDS", help="Time without a change after which a version is complete. Default: 1."),
    ] = None,
    token_file: Token = None,
    ca: Ca = None,
) -> None:
    """Load a model, or another one under the same name; returns when it serves, or failed to.

    Of a model that is there already, what is not given stays.
    """
    body: dict[str, Any] = {"path": path}
    if versions is not None:
        body["versions"] = _versions(versions)
    if labels:
        body["labels"] = dict(map(_label, labels))
    if settle is not None:
        body["settle"] = settle
    if engine is not None:
        body["engine"] = engine
    if option:
        body["options"] = engine_options(option)
    _change(url, "POST", name, ":load", token_file, body, ca=ca)


def unload(url: Url, name: Name, token_file: Token = None, ca: Ca = None) -> None:
    """Unload a model when it has answered what it has."""
    _change(url, "POST", name, ":unload", token_file, ca=ca)


def reload(url: Url, name: Name, token_file: Token = None, ca: Ca = None) -> None:
    """Load the wanted versions of a model again, from the files as they are now."""
    _change(url, "POST", name, ":reload", token_file, ca=ca)


def label(
    url: Url,
    name: Name,
    labels: Annotated[
        list[str] | None, typer.Argument(metavar="LABEL=VERSION...", help="All labels of the model.")
    ] = None,
    none: Annotated[bool, typer.Option("--none", help="Take all labels away.")] = False,
    token_file: Token = None,
    ca: Ca = None,
) -> None:
    """Set the labels of a model; those that are not named are taken away."""
    if none == bool(labels):
        raise UserError("give all labels that there shall be, such as stable=3, or --none")
    _change(url, "PUT", name, "/labels", token_file, dict(map(_label, labels or ())), ca=ca)


def traffic(
    url: Url,
    name: Name,
    weights: Annotated[
        list[str] | None,
        typer.Argument(metavar="VERSION=WEIGHT...", help="Weights of versions, each by its number or a label."),
    ] = None,
    newest: Annotated[bool, typer.Option("--newest", help="Give all requests to the newest version.")] = False,
    shadow: Annotated[
        str | None,
        typer.Option(metavar="VERSION", help="Copy the requests to this version, and compare its answers. '': none."),
    ] = None,
    share: Annotated[
        float | None, typer.Option(metavar="PART", help="With --shadow: the part of the requests that is copied.")
    ] = None,
    token_file: Token = None,
    ca: Ca = None,
) -> None:
    """Divide the requests of a model that name no version, and copy them to another version."""
    body: dict[str, Any] = {}
    if newest and weights:
        raise UserError("--newest takes the weights away: give none")
    if newest or weights:
        body["traffic"] = dict([_weight(text) for text in weights or ()])
    if share is not None and not shadow:
        raise UserError("--share is that of --shadow")
    if shadow is not None:
        body["shadow"] = {"to": shadow, **({} if share is None else {"share": share})} if shadow else None
    if not body:
        raise UserError("give weights, such as stable=95 canary=5, --newest, or --shadow")
    _change(url, "PUT", name, "/traffic", token_file, body, ca=ca)


def _label(text: str) -> tuple[str, int]:
    key, equals, number = text.partition("=")
    if not key or not equals or not (number.isascii() and number.isdigit()):
        raise UserError(f"{text!r} is not LABEL=VERSION")
    return key, int(number)


def _versions(text: str) -> Any:
    """As in a configuration's TOML; what is neither a word nor a number the server refuses."""
    word, equals, number = text.partition("=")
    if word == "latest" and equals and number.isascii() and number.isdigit():
        return {"latest": int(number)}
    parts = [part.strip() for part in text.split(",")]
    return [int(part) for part in parts] if all(part.isascii() and part.isdigit() for part in parts) else text


def _weight(text: str) -> tuple[str, float]:
    key, equals, weight = text.partition("=")
    try:
        if not key or not equals:
            raise ValueError
        number = float(weight)
        return key, int(number) if number.is_integer() else number
    except (ValueError, OverflowError):
        raise UserError(f"{text!r} is not VERSION=WEIGHT") from None


def _change(
    url: str,
    method: str,
    name: str,
    action: str,
    token_file: Path | None,
    body: dict[str, Any] | None = None,
    *,
    ca: Path | None,
) -> None:
    answer = ask(url, method, f"/v1/models/{quote(name, safe='')}{action}", read_token(token_file), body, ca)
    _print([answer])
    problem = answer.get("problem") or next((v["error"] for v in answer["versions"] if v["error"]), "")
    if problem and not any(version["state"] == "AVAILABLE" for version in answer["versions"]):
        raise typer.Exit(1)


def _print(models: list[Mapping[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    table = Table()
    for title in ("model", "version", "state", "for", "labels", "engine", "in flight", "error"):
        table.add_column(title, overflow="fold")
    for model in models:
        by_version: dict[str, list[str]] = {}
        for text, number in model.get("labels", {}).items():
            by_version.setdefault(str(number), []).append(text)
        rows = [_row(version, by_version.get(version["version"], [])) for version in model["versions"]]
        if not rows or model.get("problem"):
            rows.append(("", "", "", "", "", "", model.get("problem") or "no version"))
        for place, row in enumerate(rows):
            table.add_row(*(Text(shown(cell)) for cell in ("" if place else model["name"], *row)))
    console.print(table)
    for model in models:
        for remark in label_remarks(model):
            console.print(Text(shown(f"model {model['name']}: {remark}")))


def label_remarks(model: Mapping[str, Any]) -> list[str]:
    """Labels of versions that neither serve nor are about to."""
    coming = {version["version"] for version in model["versions"] if version["state"] in _COMING}
    return [
        f"label {text}: version {number} is not available"
        for text, number in model.get("labels", {}).items()
        if str(number) not in coming
    ]


def _row(version: Mapping[str, Any], labels: list[str]) -> tuple[str, ...]:
    since = version["since"].get(version["state"])
    lasted = "" if since is None else _duration(time.time() - since)
    in_flight = str(version["in_flight"] or "")
    return (
        version["version"],
        version["state"],
        lasted,
        ", ".join(labels),
        version["engine"],
        in_flight,
        version["error"],
    )


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"
