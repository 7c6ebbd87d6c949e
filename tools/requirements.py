"""Prints the requirements of tensorwire with the named extras, one a line, without building it.

pip install $(python tools/requirements.py onnx)
"""

import sys
import tomllib
from pathlib import Path


def requirements(extras: list[str]) -> list[str]:
    """The project's dependencies and those of its extras; an extra may name another as tensorwire[other]."""
    project = tomllib.loads(Path(__file__).parents[1].joinpath("pyproject.toml").read_text())["project"]
    found = list(project["dependencies"])
    for extra in extras:
        for line in project["optional-dependencies"][extra]:
            if line.startswith("tensorwire["):
                found += requirements([line.removeprefix("tensorwire[").rstrip("]")])
            else:
                found.append(line)
    return list(dict.fromkeys(found))


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
