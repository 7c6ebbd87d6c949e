"""The options that say how a model is loaded, for every command that loads one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from tensorwire.servers.commands.values import UserError

__all__ = [
    "AllowPickle",
    "CustomOps",
    "Device",
    "EngineName",
    "EngineOption",
    "Inputs",
    "Outputs",
    "Threads",
    "engine_options",
]

EngineName = Annotated[
    str | None, typer.Option("--engine", metavar="NAME", help="What runs the model. Default: found by the file.")
]
EngineOption = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="KEY=VALUE", help="An option of the engine; may be repeated."),
]
Threads = Annotated[
    int | None, typer.Option("--threads", min=1, metavar="N", help="Threads of one model run. Default: the engine's.")
]
Device = Annotated[
    str | None, typer.Option("--device", metavar="DEVICE", help="Where it runs: cpu, cuda, cuda:1. Default: cpu.")
]
Inputs = Annotated[
    str | None,
    typer.Option("--inputs", metavar="NAME,...", help="Input tensors of a graph that does not say which they are."),
]
Outputs = Annotated[str | None, typer.Option("--outputs", metavar="NAME,...", help="Its output tensors.")]
CustomOps = Annotated[
    list[Path] | None,
    typer.Option(
        "--custom-op-path", metavar="FILE.so", help="A library of operators that the model needs; may be repeated."
    ),
]
AllowPickle = Annotated[
    bool,
    typer.Option(
        "--allow-pickle",
        help="Read pickles, joblib files and PyTorch objects: they run any code that their maker put in.",
    ),
]


def engine_options(
    option: list[str] | None,
    *,
    threads: int | None = None,
    device: str | None = None,
    inputs: str | None = None,
    outputs: str | None = None,
    custom_ops: list[Path] | None = None,
    allow_pickle: bool = False,
) -> dict[str, Any]:
    """What an engine is given; one that knows no such option says so. Raises UserError."""
    found: dict[str, Any] = dict(map(_key_value, option or ()))
    asked = {
        "intra_op_num_threads": threads,
        "device": device,
        "inputs": inputs,
        "outputs": outputs,
        "custom_ops": [str(path) for path in custom_ops] if custom_ops else None,
        "allow_pickle": True if allow_pickle else None,
    }
    return found | {name: value for name, value in asked.items() if value is not None}


def _key_value(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not key or not equals:
        raise UserError(f"--option: {text!r} is not KEY=VALUE")
    return key, value
