"""Dependencies point one way: the imports of every file are read and held against the picture in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from layers import ALLOWED, EAGER_THIRD_PARTY, FRAMEWORKS

ROOT = Path(__file__).parents[2]


def modules() -> dict[str, Path]:
    found: dict[str, Path] = {}
    for folder, package in (
        (ROOT / "src/tensorwire", "tensorwire"),
        (ROOT / "servers", "tensorwire.servers"),
    ):
        for path in sorted(folder.rglob("*.py")):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    for path in sorted((ROOT / "_ext/tensorwire").glob("*.pyx")):
        found[f"tensorwire.{path.stem}"] = path
    return found


def imports(path: Path) -> list[tuple[str, bool]]:
    """(module, lazy) for each import of a file; `from tensorwire import X` counts as the package, or its module X."""
    text = path.read_text()
    if path.suffix == ".pyx":
        found = re.findall(r"^(?:from|import|cimport) +([\w.]+)", text, re.M)
        found += re.findall(r"^ +(?:from|import) +([\w.]+)", text, re.M)
        return [(name, False) for name in found]
    edges: list[tuple[str, bool]] = []
    tree = ast.parse(text)
    type_checking = [n for n in ast.walk(tree) if isinstance(n, ast.If) and "TYPE_CHECKING" in ast.dump(n.test)]
    skipped = {id(inner) for block in type_checking for inner in ast.walk(block)}
    functions = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    inside = {id(inner) for function in functions for inner in ast.walk(function)}
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            edges += [(alias.name, id(node) in inside) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports are absolute"
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                edges.append((submodule if submodule in modules() else node.module or "", id(node) in inside))
    return edges


def rule_for(module: str) -> tuple[str, set[str]]:
    name = module
    while name not in ALLOWED or (name in ("tensorwire", "tensorwire.servers") and name != module):
        assert "." in name, f"{module} has no place in the picture; add it to ALLOWED"
        name = name.rpartition(".")[0]
        assert name not in ("tensorwire", "tensorwire.servers"), f"{module} has no place in the picture"
    return name, ALLOWED[name]


def covers(allowed: str, target: str) -> bool:
    if allowed == "":
        return target == "tensorwire"
    full = f"tensorwire.{allowed}"
    return target == full or target.startswith(full + ".")


@pytest.mark.parametrize("module", sorted(modules()))
def test_imports_point_one_way(module: str) -> None:
    part, allowed = rule_for(module)
    for target, lazy in imports(modules()[module]):
        if target.split(".")[0] != "tensorwire" or target in ("tensorwire._c", module):
            continue
        if part not in ("tensorwire", "tensorwire.servers") and (target == part or target.startswith(part + ".")):
            continue
        reach = {a.removeprefix("lazy ") for a in allowed if lazy or not a.startswith("lazy ")}
        assert any(covers(a, target) for a in reach), f"{module} imports {target}, which is not below it"


@pytest.mark.parametrize("module", sorted(modules()))
def test_frameworks_are_imported_by_their_engine_alone(module: str) -> None:
    for target, lazy in imports(modules()[module]):
        homes = FRAMEWORKS.get(target.split(".")[0], ())
        homes = (homes,) if isinstance(homes, str) else homes
        if homes:
            at_home = any(module == home or module.startswith(home + ".") for home in homes)
            assert at_home, f"{module} imports {target}; only {' and '.join(homes)} may"
            assert lazy, f"{module} imports {target} at its top; it is loaded with the first model"


@pytest.mark.parametrize("module", sorted(EAGER_THIRD_PARTY))
def test_light_modules_load_light(module: str) -> None:
    import sys

    standard = sys.stdlib_module_names
    eager = {target.split(".")[0] for target, lazy in imports(modules()[module]) if not lazy}
    assert eager - set(standard) - {"tensorwire"} <= EAGER_THIRD_PARTY[module]


def test_every_rule_is_in_use() -> None:
    used = {rule_for(module)[0] for module in modules()}
    assert set(ALLOWED) == used


def test_foreign_declarations_stand_in_one_file() -> None:
    for path in (ROOT / "_ext/tensorwire").iterdir():
        if path.suffix in (".pyx", ".pxd") and path.name != "_c.pxd":
            assert "cdef extern" not in path.read_text(), f"{path.name} declares foreign names; _c.pxd is the place"


def test_the_c_core_stands_alone() -> None:
    for path in (ROOT / "_ext/c").iterdir():
        text = path.read_text()
        assert "Python.h" not in text, path.name
        assert not re.search(r"\b(malloc|calloc|realloc)\s*\(", text), path.name


def test_files_stay_readable() -> None:
    for folder in ("_ext", "src", "servers", "tests", "bench", "tools"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".pyx", ".pxd", ".c", ".h") and "build" not in path.parts:
                lines = path.read_text().count("\n")
                assert lines <= 400, f"{path.relative_to(ROOT)} has {lines} lines"
