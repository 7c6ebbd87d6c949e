"""Dependencies point one way: the imports of every file are read and held against the picture in CONTRIBUTING.md."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

# What each part may import of tensorwire, by the longest prefix that matches its module name. A part may always
# import itself. "lazy" edges are taken only inside a function.
ALLOWED: dict[str, set[str]] = {
    "tensorwire.errors": set(),
    "tensorwire._version": set(),
    "tensorwire._budget": set(),
    "tensorwire._copies": set(),
    "tensorwire._memory": {"_budget"},
    "tensorwire._dtypes": set(),
    "tensorwire._messages": set(),
    "tensorwire._dlpack": {"_dtypes"},
    "tensorwire._frame": set(),
    "tensorwire._encode": {"_copies", "_memory", "_dtypes", "_dlpack", "_frame", "_messages", "errors"},
    "tensorwire._decode": {"_copies", "_memory", "_dtypes", "_messages", "errors"},
    "tensorwire._heads": set(),
    "tensorwire._files": {"_messages", "_encode", "_decode", "errors"},
    "tensorwire._head": set(),
    "tensorwire._poll": set(),
    "tensorwire._incoming": {"_poll"},
    "tensorwire._pending": {"_memory", "_frame"},
    "tensorwire._pace": set(),
    "tensorwire._net": {"_budget", "_copies", "_memory", "_frame", "_head", "_heads", "_incoming", "_pace", "_pending"},
    "tensorwire._handler": set(),
    "tensorwire._proxy": {"_version"},
    "tensorwire._address": {"_limit", "_proxy", "_version", "errors"},
    "tensorwire._limit": set(),
    "tensorwire._answer": {"_memory"},
    "tensorwire._exchange": {"_answer", "_copies", "_memory", "_frame", "errors"},
    "tensorwire._plain": {"_answer", "_exchange", "_poll", "_limit"},
    "tensorwire._http": {"_answer", "_exchange", "_plain", "_poll", "_limit", "_frame", "_address", "errors"},
    "tensorwire._stream": {"_answer", "_exchange", "_limit"},
    "tensorwire._async_http": {"_address", "_answer", "_exchange", "_limit", "_frame", "_http", "_stream"},
    "tensorwire._fit": {"_messages"},
    "tensorwire._preview": set(),
    "tensorwire._into": {"_copies", "_memory", "_messages", "_decode", "_preview", "errors"},
    "tensorwire._many": {"_messages"},
    "tensorwire._result": {"_answer", "_memory", "_messages", "_decode", "errors"},
    "tensorwire._retry": {"_limit", "errors"},
    "tensorwire._base": {
        "_messages",
        "_answer",
        "_address",
        "_limit",
        "_proxy",
        "_into",
        "_result",
        "_retry",
        "errors",
    },
    "tensorwire.client": {"_answer", "_messages", "_encode", "_exchange", "_http", "_base", "lazy _many", "errors"},
    "tensorwire.async_client": {
        "_answer",
        "_messages",
        "_encode",
        "_exchange",
        "_async_http",
        "_base",
        "lazy _many",
        "errors",
    },
    "tensorwire.remote": {"_messages", "client", "errors"},
    "tensorwire._serve": {"lazy servers"},
    "tensorwire": {
        "_copies",
        "_dlpack",
        "_files",
        "_frame",
        "_memory",
        "_messages",
        "_encode",
        "_decode",
        "_version",
        "errors",
        "lazy async_client",
        "lazy client",
        "lazy remote",
        "lazy _serve",
    },
    "tensorwire.__main__": {"lazy servers"},
    "tensorwire.servers": set(),
    "tensorwire.servers.embedded": set(),
    "tensorwire.servers.activation": {"errors"},
    "tensorwire.servers.address": {"errors", "servers.activation"},
    "tensorwire.servers.acceptor": set(),
    "tensorwire.servers.restarts": set(),
    "tensorwire.servers.siblings": set(),
    "tensorwire.servers.log_writer": set(),
    "tensorwire.servers.deadline": set(),
    "tensorwire.servers.supervisor": {"errors", "servers.log_writer", "servers.restarts"},
    "tensorwire.servers.tls": {"errors"},
    "tensorwire.servers.model": {"errors", "_messages"},
    "tensorwire.servers.spec_text": {"_messages", "servers.model"},
    "tensorwire.servers.declare": {"_messages", "servers.model", "servers.spec_text"},
    "tensorwire.servers.engines": {
        "_copies",
        "_dlpack",
        "_messages",
        "servers.model",
        "servers.spec_text",
        "servers.declare",
    },
    "tensorwire.servers.repository": {
        "",
        "_decode",
        "_messages",
        "errors",
        "servers.check",
        "servers.model",
        "servers.engines.registry",
        "servers.embedded",
        "servers.resident",
        "servers.routing.rules",
        "servers.threads",
        "_memory",
    },
    "tensorwire.servers.resident": set(),
    "tensorwire.servers.threads": set(),
    "tensorwire.servers.scheduling": {"", "servers.model", "servers.threads"},
    "tensorwire.servers.engines.ort": {
        "_copies",
        "_memory",
        "_messages",
        "servers.model",
        "servers.engines.no_rows",
        "servers.engines.options",
        "lazy servers.engines.nets.inputs",
    },
    "tensorwire.servers.check": {"_fit", "_messages", "servers.model"},
    "tensorwire.servers.status": {"servers.model", "servers.repository", "servers.routing"},
    "tensorwire.servers.demand": {"servers.model", "servers.job", "servers.repository", "servers.routing"},
    "tensorwire.servers.job": {"_messages", "servers.model", "servers.check", "servers.deadline"},
    "tensorwire.servers.routing.rules": set(),
    "tensorwire.servers.routing": {
        "_messages",
        "servers.model",
        "servers.check",
        "servers.pagelock",
        "servers.scheduling",
    },
    "tensorwire.servers.pagelock": {"_memory"},
    "tensorwire.servers.isolation": {
        "_decode",
        "_encode",
        "_frame",
        "_memory",
        "_messages",
        "errors",
        "servers.check",
        "servers.deadline",
        "servers.engines.registry",
        "servers.model",
        "servers.repository",
        "servers.resident",
        "servers.restarts",
    },
    "tensorwire.servers.service": {
        "_messages",
        "_version",
        "servers.model",
        "servers.demand",
        "servers.job",
        "servers.resident",
        "servers.routing",
        "servers.status",
        "servers.engines",
        "servers.repository",
        "servers.scheduling",
    },
    "tensorwire.servers.fronts": {
        "",
        "_budget",
        "_copies",
        "_incoming",
        "_memory",
        "_net",
        "_pace",
        "_pending",
        "errors",
        "servers.model",
        "servers.routing",
        "servers.status",
        "servers.repository.config",
        "servers.repository.config_file",
        "servers.repository.toml_file",
        "servers.service",
        "servers.siblings",
        "servers.fronts",
    },
    "tensorwire.servers.server": {
        "_budget",
        "_memory",
        "_net",
        "servers.service",
        "servers.repository.config",
        "servers.fronts",
        "servers.acceptor",
        "servers.address",
        "servers.siblings",
        "servers.log_writer",
        "servers.tls",
    },
    "tensorwire.servers.app": {
        "servers.server",
        "servers.service",
        "servers.siblings",
        "servers.supervisor",
        "servers.tls",
        "servers.model",
        "servers.repository",
        "servers.fronts.limits",
        "servers.address",
        "lazy servers.isolation",
        "lazy servers.scheduling",
        "servers.engines.python_model",
    },
    "tensorwire.servers.background": {"", "servers.app", "servers.model", "servers.address"},
    "tensorwire.servers.loadgen": {
        "",
        "_address",
        "_answer",
        "_exchange",
        "_frame",
        "_messages",
        "_decode",
        "errors",
    },
    "tensorwire.servers.doctor": {"", "lazy servers.engines.ort"},
    "tensorwire.servers.cli": {"", "errors", "servers.commands", "servers.model"},
    "tensorwire.servers.commands": {
        "",
        "errors",
        "servers.app",
        "servers.model",
        "servers.spec_text",
        "servers.address",
        "servers.resident",
        "servers.log_writer",
        "servers.repository",
        "servers.engines.registry",
        "servers.commands",
        "servers.loadgen",
        "servers.doctor",
        "lazy servers.engines.echo",
    },
}

# A framework is imported by its own engine, and only when a model of it is loaded.
# A framework that takes several files has a package of the name.
FRAMEWORKS: dict[str, str | tuple[str, ...]] = {
    "onnxruntime": "tensorwire.servers.engines.ort",
    "onnx": ("tensorwire.servers.engines.ort", "tensorwire.servers.engines.nets"),  # networks become ONNX graphs
    "tensorflow": "tensorwire.servers.engines.tf",
    "keras": "tensorwire.servers.engines.tf",
    "h5py": "tensorwire.servers.engines.tf",
    "ai_edge_litert": "tensorwire.servers.engines.tf",
    "torch": "tensorwire.servers.engines.pt",
    "safetensors": "tensorwire.servers.engines.pt",
    "sklearn": "tensorwire.servers.engines.skl",
    "joblib": "tensorwire.servers.engines.skl",
    "skops": "tensorwire.servers.engines.skl",
    "xgboost": "tensorwire.servers.engines.xgb",
    "lightgbm": "tensorwire.servers.engines.lgbm",
    "lmdb": "tensorwire.servers.scheduling.row_store",
    "blake3": "tensorwire.servers.scheduling.row_store",
}
# Importing tensorwire, or any of these modules, loads nothing of the right-hand side.
EAGER_THIRD_PARTY: dict[str, set[str]] = {
    "tensorwire": {"numpy"},
    "tensorwire.client": {"numpy"},
    "tensorwire.async_client": {"numpy"},
    "tensorwire.remote": {"numpy"},
}


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
