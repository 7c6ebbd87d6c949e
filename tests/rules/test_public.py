"""What the package shows is what __all__ says, and importing it costs numpy and nothing else."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import tensorwire


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_all_is_what_is_public() -> None:
    submodules = {"async_client", "client", "errors", "servers"}
    visible = {name for name in vars(tensorwire) if not name.startswith("_")} - {
        "TYPE_CHECKING",
        "Any",
        "annotations",
    }
    assert visible - submodules <= set(tensorwire.__all__)
    assert set(tensorwire.__all__) <= set(dir(tensorwire))
    for name in tensorwire.__all__:
        assert getattr(tensorwire, name) is not None


def test_all_is_sorted_and_has_no_doubles() -> None:
    assert sorted(set(tensorwire.__all__)) == sorted(tensorwire.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    assert not hasattr(tensorwire, "AsyncServer")


def test_public_classes_and_functions_have_signatures() -> None:
    for name in ("encode", "decode", "serve", "AsyncClient", "Client", "Request", "Response", "Chunk", "TensorSpec"):
        assert inspect.signature(getattr(tensorwire, name)).parameters


def test_import_loads_numpy_and_nothing_else() -> None:
    loaded = json.loads(run("import sys, json, tensorwire; print(json.dumps(sorted(sys.modules)))"))
    with_numpy = json.loads(run("import sys, json, numpy; print(json.dumps(sorted(sys.modules)))"))
    extra = {name.split(".")[0] for name in set(loaded) - set(with_numpy)}
    foreign = {name for name in extra if name not in sys.stdlib_module_names and name != "tensorwire"}
    # Cython registers its own helper modules under a name with its version.
    assert {name for name in foreign if not name.startswith(("_cython", "cython_runtime"))} == set()
    assert not extra & {"asyncio", "socket", "ssl", "http", "httptools", "uvloop", "ml_dtypes"}


def test_the_client_loads_no_server() -> None:
    code = (
        "import sys, tensorwire; tensorwire.Client('http://127.0.0.1:1').close(); tensorwire.remote;"
        "print(sorted(m for m in sys.modules if m.startswith(('tensorwire.servers', 'asyncio', 'uvloop'))))"
    )
    assert run(code).strip() == "[]"
