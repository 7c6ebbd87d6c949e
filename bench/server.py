"""A tensorwire server in a process of its own: ``python -m bench.server MODEL --listen ADDRESS ...``.

MODEL is "echo"; "features", which answers anything with the 12.85 MB of GraphPipe's benchmark; "double", a Python
function in a worker thread; a .npz file, which answers anything with the arrays in it; or a model's file or folder.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np

from bench.children import raise_descriptor_limit
from bench.workload import FEATURES, floats
from tensorwire.servers import pagelock
from tensorwire.servers.app import App, serve_model
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.function import FunctionModel


def always(name: str, answer: dict[str, Any]) -> FunctionModel:
    """The same answer to every request, from memory: only the way there and back takes time."""
    return FunctionModel(lambda inputs: answer, name=name, inline=True)


def double(inputs: dict[str, Any]) -> dict[str, Any]:
    return {"y": inputs["x"] * 2}


def _model(name: str) -> Any:
    if name == "echo":
        return EchoModel()
    if name == "features":
        return always(name, {"y": floats(FEATURES)})
    if name == "double":
        return double
    if name.endswith(".npz"):
        return always("ready", dict(np.load(name)))
    return Path(name)


def _ready(app: App) -> None:
    print(json.dumps(app.urls), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--listen", action="append", required=True)
    parser.add_argument("--tls-cert")
    parser.add_argument("--tls-key")
    parser.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help="an option of the engine")
    parser.add_argument("--pageable", action="store_true", help="a GPU's requests go into memory that is not locked")
    options = parser.parse_args()
    if options.pageable:
        pagelock._runtime = lambda: None
    raise_descriptor_limit()
    serve_model(
        _model(options.model),
        listen=options.listen,
        on_ready=_ready,
        tls_cert=options.tls_cert,
        tls_key=options.tls_key,
        engine_options=dict(option.split("=", 1) for option in options.option),
    )


if __name__ == "__main__":
    main()
