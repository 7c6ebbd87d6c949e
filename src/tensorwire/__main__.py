"""The commands and ``python -m tensorwire``: load a command line, which is an extra."""

from __future__ import annotations

import sys
from collections.abc import Callable

__all__ = ["main", "onnx", "tf"]


def main() -> int:
    """Run ``tensorwire``; returns the exit code, 2 when a package that it needs is not installed."""

    def load() -> Callable[[], int]:
        from tensorwire.servers.cli import main as run

        return run

    return _run("tensorwire", load)


def onnx() -> int:
    """Run ``tensorwire-onnx``; returns as ``main`` does."""

    def load() -> Callable[[], int]:
        from tensorwire.servers.commands.graphpipe_onnx import main as run

        return run

    return _run("tensorwire-onnx", load)


def tf() -> int:
    """Run ``tensorwire-tf``; returns as ``main`` does."""

    def load() -> Callable[[], int]:
        from tensorwire.servers.commands.graphpipe_tf import main as run

        return run

    return _run("tensorwire-tf", load)


def _run(name: str, load: Callable[[], Callable[[], int]]) -> int:
    try:
        return load()()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "tensorwire":
            raise
        print(f"{name}: the command line needs {error.name}: pip install 'tensorwire[serve]'", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
