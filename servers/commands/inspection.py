"""``tensorwire inspect``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import urlsplit

import typer

from tensorwire import DecodeError, Metadata, RemoteError, TensorSpec
from tensorwire.servers.commands.credentials import Ca, Cert, Key, TokenFile, client_options
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
from tensorwire.servers.commands.values import UserError, connect, dtype_text, shape_text, shown, size_text
from tensorwire.servers.model import Model

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = """Examples:

    tensorwire inspect model.onnx

    tensorwire inspect saved_model/

    tensorwire inspect net.pt2 --device cuda:0

    tensorwire inspect graph.pb --outputs policy,value

    tensorwire inspect my_module:predict

    tensorwire inspect http://127.0.0.1:9000
"""

_SCHEMES = ("http://", "https://", "unix:")


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            metavar="PATH|URL|MODULE:NAME",
            help="A model, a folder of versions of one, a server that runs one, or a function or class of Python.",
        ),
    ],
    threads: Threads = None,
    device: Device = None,
    engine: EngineName = None,
    option: EngineOption = None,
    inputs: Inputs = None,
    outputs: Outputs = None,
    custom_op_path: CustomOps = None,
    allow_pickle: AllowPickle = False,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Show a model's inputs and outputs, of every signature, and what its file says of itself."""
    from rich.console import Console

    console = Console(highlight=False)
    if target.startswith(_SCHEMES):
        metadata = _asked(target, client_options(ca, cert, key, token_file))
        about = {"model": metadata.name, "version": metadata.version, "description": metadata.description}
        _print_facts(console, about | {"server": metadata.server})
        _print_specs(console, metadata.inputs, metadata.outputs)
        return
    options = engine_options(
        option,
        threads=threads,
        device=device,
        inputs=inputs,
        outputs=outputs,
        custom_ops=custom_op_path,
        allow_pickle=allow_pickle,
    )
    path, versions = _newest(Path(target))
    model = _load(path, engine, options)
    if versions:
        model.version = str(versions[-1])
    try:
        _print_model(console, path, model, versions)
    finally:
        model.close()


def _asked(url: str, options: Mapping[str, Any]) -> Metadata:
    """What a server says of its model. Raises UserError where there is another kind of server, and TensorwireError."""
    try:
        with connect(url, **options) as client:
            return client.metadata()
    except (DecodeError, RemoteError) as error:
        file = PurePosixPath(urlsplit(url).path)
        other = isinstance(error, DecodeError) or error.message.startswith("<") or file.suffix
        if url.startswith("unix:") or not other:
            raise
        reason = f"answered with status {error.status}" if isinstance(error, RemoteError) else "answered otherwise"
        raise UserError(
            f"{url} is no tensorwire or GraphPipe server: it {reason}. A model's file is looked into once it is here: "
            f"curl -LO {url} && tensorwire inspect {file.name or 'FILE'}"
        ) from None


def _newest(path: Path) -> tuple[Path, list[int]]:
    """The model to show, and the numbers of the versions when the path is a folder of them, as `serve` takes one: then
    it is the newest. Raises ModelError for a version without a model.
    """
    from tensorwire.servers.engines.registry import is_model
    from tensorwire.servers.repository.layout import model_file, numbered

    if not path.is_dir() or is_model(path):
        return path, []
    found = dict(sorted(numbered(path).items()))
    if not found:
        return path, []
    return model_file(list(found.values())[-1], is_model), list(found)


def _load(path: Path, engine: str | None, options: Mapping[str, Any]) -> Model:
    from tensorwire.servers.engines.registry import load_model

    return load_model(path, engine=engine, options=options)


def _print_model(console: Console, path: Path, model: Model, versions: Sequence[int]) -> None:
    from rich.text import Text

    about = {
        "model": model.name,
        "version": model.version,
        "versions": ", ".join(map(str, versions)) + ": the newest is shown" if versions else "",
        "description": model.description,
        "engine": model.engine,
        "device": model.device if model.device != "cpu" else "",
    }
    size = sum(file.stat().st_size for file in (path.rglob("*") if path.is_dir() else (path,)) if file.is_file())
    _print_facts(console, about | dict(model.facts) | {"size": size_text(size) if path.exists() else ""})
    several = len(model.signatures) > 1
    for name, signature in model.signatures.items():
        if several:
            default = " (the default)" if name == model.default_signature else ""
            console.print(Text(f"signature {shown(name)}{default}"), soft_wrap=True)
        _print_specs(console, signature.inputs, signature.outputs)


def _print_facts(console: Console, facts: Mapping[str, str]) -> None:
    from rich.text import Text

    for key, value in facts.items():
        if value:
            console.print(Text(f"{key}: {shown(value)}"), soft_wrap=True)


def _print_specs(console: Console, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> None:
    from rich.table import Table
    from rich.text import Text

    specs = [("input", spec) for spec in inputs] + [("output", spec) for spec in outputs]
    if not specs:
        console.print("inputs and outputs: not declared")
        return
    described = any(spec.description for _, spec in specs)
    table = Table("")
    for title in ("name", "dtype", "shape", *(["description"] if described else [])):
        table.add_column(title, overflow="fold")
    for kind, spec in specs:
        cells = [spec.name, dtype_text(spec.dtype), shape_text(spec.shape)]
        cells += [spec.description] if described else []
        table.add_row(kind, *(Text(shown(cell)) for cell in cells))
    console.print(table)
