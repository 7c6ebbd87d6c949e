"""``tensorwire inspect``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

import tensorwire
from tensorwire.servers.commands.onnx_file import onnx_facts
from tensorwire.servers.commands.values import connect, dtype_text, shape_text, shown, size_text

EXAMPLES = """Examples:

    tensorwire inspect model.onnx

    tensorwire inspect http://127.0.0.1:9000
"""

_SCHEMES = ("http://", "https://", "unix:")


def inspect(
    target: Annotated[str, typer.Argument(metavar="PATH|URL", help="A model, or a server that runs one.")],
) -> None:
    """Show a model's inputs and outputs."""
    if target.startswith(_SCHEMES):
        with connect(target) as client:
            metadata = client.metadata()
        _print(metadata, {"server": metadata.server})
    else:
        metadata, facts = _load(Path(target))
        _print(metadata, facts)


def _load(path: Path) -> tuple[tensorwire.Metadata, dict[str, str]]:
    from tensorwire.servers.engines.registry import load_model

    model = load_model(path)
    try:
        facts = {"engine": model.engine}
        if path.suffix.lower() == ".onnx":
            facts |= onnx_facts(path)
        if path.is_file():
            facts["size"] = size_text(path.stat().st_size)
        signature = model.signatures[model.default_signature]
        metadata = tensorwire.Metadata(
            model.name, model.version, "", model.description, signature.inputs, signature.outputs
        )
        return metadata, facts
    finally:
        model.close()


def _print(metadata: tensorwire.Metadata, facts: Mapping[str, str]) -> None:
    console = Console(highlight=False)
    about = {"model": metadata.name, "version": metadata.version, "description": metadata.description}
    for key, value in (about | dict(facts)).items():
        if value:
            console.print(Text(f"{key}: {shown(value)}"), soft_wrap=True)
    specs = [("input", spec) for spec in metadata.inputs] + [("output", spec) for spec in metadata.outputs]
    described = any(spec.description for _, spec in specs)
    table = Table("")
    for title in ("name", "dtype", "shape", *(["description"] if described else [])):
        table.add_column(title, overflow="fold")
    for kind, spec in specs:
        cells = [spec.name, dtype_text(spec.dtype), shape_text(spec.shape)]
        cells += [spec.description] if described else []
        table.add_row(kind, *(Text(shown(cell)) for cell in cells))
    if specs:
        console.print(table)
    else:
        console.print("inputs and outputs: not declared")
