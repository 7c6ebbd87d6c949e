"""The command ``tensorwire`` and ``python -m tensorwire``: loads the command line, which is an extra."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> int:
    """Run the command line; returns the exit code, 2 when a package that it needs is not installed."""
    try:
        from tensorwire.servers.cli import main as run

        return run()
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] == "tensorwire":
            raise
        text = f"the command line needs {error.name}: pip install 'tensorwire[serve]'"
        print(f"tensorwire: {text}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
