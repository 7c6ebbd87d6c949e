"""``tensorwire version``."""

from __future__ import annotations

import platform

import numpy

import tensorwire

EXAMPLES = """Examples:

    tensorwire version
"""


def version() -> None:
    """Print the version, and those of what it runs on."""
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    print(f"tensorwire {tensorwire.__version__} (Python {python}, numpy {numpy.__version__}, {system})")
