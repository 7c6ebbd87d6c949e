"""``tensorwire infer``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from tensorwire.servers.commands.values import UserError, connect, describe, shown

EXAMPLES = """Examples:

    tensorwire infer http://127.0.0.1:9000 --input image=digit.npy

    tensorwire infer http://127.0.0.1:9000 --input digit.npy --output probabilities=p.npy

    tensorwire infer unix:///run/model.sock --input a=a.npy --input b=b.npy --output sum.npy
"""


def infer(
    url: Annotated[
        str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")
    ],
    input: Annotated[
        list[str],
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input tensor; may be repeated."),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="[NAME=]FILE.npy", help="Save an output; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait.")] = 60.0,
) -> None:
    """Send tensors to a server and show, or save, what it answers."""
    inputs = _read_inputs(input)
    files = _output_files(output or [])
    wanted = [] if "" in files else list(files)
    with connect(url, timeout) as client:
        answer = client.infer(inputs, outputs=wanted)
    arrays = dict(answer)
    if "" in files:
        if len(arrays) != 1:
            names = ", ".join(shown(name) for name in arrays)
            raise UserError(f"{len(arrays)} outputs came ({names}): --output NAME=FILE.npy says which")
        files = {next(iter(arrays)): files[""]}
    for name, array in arrays.items():
        print(f"{shown(name)}: {describe(array)}")
        if name in files:
            _save(files[name], array)
            print(f"  saved as {files[name]}")


def _read_inputs(texts: list[str]) -> dict[str, NDArray[Any]] | list[NDArray[Any]]:
    """Arrays by name, or in order when none is named; mapped from their files, not read."""
    named = [_split(text) for text in texts]
    if not any(name for name, _ in named):
        return [_load(path) for _, path in named]
    if not all(name for name, _ in named):
        raise UserError("either every --input has a name (NAME=FILE.npy) or none")
    inputs: dict[str, NDArray[Any]] = {}
    for name, path in named:
        if name in inputs:
            raise UserError(f"--input {name} is given twice")
        inputs[name] = _load(path)
    return inputs


def _output_files(texts: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name, path in map(_split, texts):
        if name in files:
            raise UserError(
                f"--output {name} is given twice" if name else "--output without a name is for one"
            )
        if not path.parent.is_dir():
            raise UserError(f"no such folder: {path.parent}")
        files[name] = path
    if "" in files and len(files) > 1:
        raise UserError("either every --output has a name (NAME=FILE.npy), or there is only one")
    return files


def _split(text: str) -> tuple[str, Path]:
    name, equals, path = text.partition("=")
    return (name, Path(path)) if equals else ("", Path(text))


def _load(path: Path) -> NDArray[Any]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"no such file: {path}") from None
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path} is not a .npy file of plain values: {error}") from None
    if not isinstance(array, np.ndarray):
        raise UserError(f"{path} holds several arrays (.npz): save the one to send with numpy.save")
    return array


def _save(path: Path, array: NDArray[Any]) -> None:
    if array.dtype.kind == "V":  # bfloat16 and float8: the .npy format does not know them
        array = array.astype(np.float32)
    if array.dtype.kind == "O":  # byte strings: a fixed width, so that no pickle is needed
        array = array.astype(np.bytes_)
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
