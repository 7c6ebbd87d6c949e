"""``tensorwire infer``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray

from tensorwire.servers.commands.arrays import read_inputs, split_name
from tensorwire.servers.commands.credentials import Ca, Cert, Key, TokenFile, client_options
from tensorwire.servers.commands.values import UserError, connect, describe, shown

EXAMPLES = """Examples:

    tensorwire infer http://127.0.0.1:9000 --input image=digit.npy

    tensorwire infer http://127.0.0.1:9000 --input digit.npy --output probabilities=p.npy

    tensorwire infer unix:///run/model.sock --input a=a.npy --input b=b.npy --output sum.npy
"""


def infer(
    url: Annotated[str, typer.Argument(metavar="URL", help="Server: http://host:port, https://... or unix:///path.")],
    input: Annotated[
        list[str],
        typer.Option("--input", "-i", metavar="[NAME=]FILE.npy", help="An input tensor; may be repeated."),
    ],
    output: Annotated[
        list[str] | None,
        typer.Option("--output", "-o", metavar="[NAME=]FILE.npy", help="Save an output; may be repeated."),
    ] = None,
    timeout: Annotated[float, typer.Option(min=0.001, metavar="SECONDS", help="Longest wait.")] = 60.0,
    ca: Ca = None,
    cert: Cert = None,
    key: Key = None,
    token_file: TokenFile = None,
) -> None:
    """Send tensors to a server and show, or save, what it answers."""
    inputs = read_inputs(input)
    files = _output_files(output or [])
    wanted = [] if "" in files else list(files)
    with connect(url, timeout, **client_options(ca, cert, key, token_file)) as client:
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


def _output_files(texts: list[str]) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for name, path in map(split_name, texts):
        if name in files:
            raise UserError(f"--output {name} is given twice" if name else "--output without a name is for one")
        if not path.parent.is_dir():
            raise UserError(f"no such folder: {path.parent}")
        files[name] = path
    if "" in files and len(files) > 1:
        raise UserError("either every --output has a name (NAME=FILE.npy), or there is only one")
    return files


def _save(path: Path, array: NDArray[Any]) -> None:
    if array.dtype.kind == "V":  # bfloat16 and float8: the .npy format does not know them
        array = array.astype(np.float32)
    if array.dtype.kind == "O":  # byte strings: a fixed width, so that no pickle is needed
        array = array.astype(np.bytes_)
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
