"""A tensorwire server in a process of its own: ``python -m bench.transport.server MODEL ADDRESS...``.

MODEL is "echo", or "features", which answers anything with the 12.85 MB of GraphPipe's benchmark.
"""

from __future__ import annotations

import json
import sys

from bench.workload import FEATURES, floats
from tensorwire.servers.app import App, serve_model
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.model import Model


def features() -> Model:
    """The same answer to every request, from memory: only the way there and back takes time."""
    answer = {"y": floats(FEATURES)}
    return FunctionModel(lambda inputs: answer, name="features", inline=True)


def ready(app: App) -> None:
    print(json.dumps(app.urls), flush=True)


if __name__ == "__main__":
    serve_model(EchoModel() if sys.argv[1] == "echo" else features(), listen=sys.argv[2:], on_ready=ready)
