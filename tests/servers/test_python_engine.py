"""``tensorwire serve module:name``: what is imported from where, and one line when it cannot be."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from processes import Start, first_line

import tensorwire as tw
from tensorwire.servers.cli import main
from tensorwire.servers.engines import registry
from tensorwire.servers.engines.python import ENGINE
from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.local import open_model

SOURCE = '''
import numpy as np
from typing import Annotated
from numpy.typing import NDArray

def predict(x: Annotated[NDArray[np.float32], "float32[?, 2]"]) -> Annotated[NDArray[np.float32], "y:float32[?]"]:
    """The sum of each row."""
    return x.sum(axis=1)

class Scale:
    def __init__(self, by: float):
        self.by = by

    def predict(self, x, y):
        return {"z": (x + y) * self.by}

class Outer:
    scale = Scale(3.0)

number = 5
'''
X = np.ones((3, 2), np.float32)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module in the current folder; the import system forgets it afterwards."""
    name = f"models_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    known = set(sys.modules)
    yield name
    for new in set(sys.modules) - known:
        if new.startswith(("models_", "broken_")):
            del sys.modules[new]


def test_a_function_a_class_and_an_object_of_a_module_are_found(module: str) -> None:
    model = open_model(f"{module}:predict")
    assert (model.name, model.description, model.engine) == ("predict", "The sum of each row.", "python")
    assert model.run("", {"x": X}, ("y",))["y"].tolist() == [2.0, 2.0, 2.0]
    scale = registry.load_model(f"{module}:Scale", options={"by": "0.5"})
    assert scale.run("", {"x": X, "y": X}, ())["z"].sum() == X.size
    assert open_model(Path(f"{module}:Outer.scale")).run("", {"x": X, "y": X}, ())["z"].sum() == 6 * X.size
    assert sys.path[0] == str(Path.cwd())


def test_a_file_of_that_name_comes_first(module: str) -> None:
    Path(f"{module}:predict").write_text("a file")
    assert not registry.is_reference(f"{module}:predict")
    with pytest.raises(ModelError, match="not a format of a known engine"):
        open_model(f"{module}:predict")
    with pytest.raises(ModelError, match="the python engine serves module:name"):
        ENGINE.load(Path(f"{module}:predict"), options={})


@pytest.mark.parametrize(
    "text", ["model.onnx", "a/b:c", "C:\\models\\m", "a:", ":b", "a:b:c", "1a:b", "unix:/a", "a b:c"]
)
def test_what_is_no_reference_is_a_file(text: str) -> None:
    assert not registry.is_reference(text)


@pytest.mark.parametrize(
    ("source", "name", "message"),
    [
        (SOURCE, "predit", r"has no 'predit'; did you mean predict\?$"),
        (SOURCE, "zzz", "has no 'zzz'$"),
        (SOURCE, "Outer.scal", r"Outer has no 'scal'; did you mean scale\?$"),
        (SOURCE, "number", "int is no model: it can neither be called nor has it a method predict$"),
        (SOURCE, "Scale", "Scale needs the option by: --option by=..."),
        (
            "import no_such_module_here",
            "f",
            r"the import raised ModuleNotFoundError: No module named 'no_such_module_her",
        ),
        (
            "x = 1\n1 / 0\n",
            "f",
            r"the import raised ZeroDivisionError: division by zero \(broken_\w+.py, line 2\); for the",
        ),
        ("def f(:\n", "f", r"the import raised SyntaxError: .*broken_\w+.py, line 1\)"),
        ("import sys; sys.exit('no\\nlicence')", "f", "the import raised SystemExit: no licence "),
        ("from tensorwire.servers.declare import model\n@model(inputs='x:f')\ndef f(x): ...", "f", "unknown dtype 'f'"),
    ],
)
@pytest.mark.usefixtures("module")
def test_what_cannot_be_imported_says_why_on_one_line(
    source: str, name: str, message: str, caplog: pytest.LogCaptureFixture
) -> None:
    broken = f"broken_{uuid4().hex}"
    Path(f"{broken}.py").write_text(source)
    with caplog.at_level(logging.DEBUG, "tensorwire.engines"), pytest.raises(ModelError, match=message) as caught:
        open_model(f"{broken}:{name}")
    assert str(caught.value).startswith(f"{broken}:{name}: ")
    assert "\n" not in str(caught.value)
    if "the import raised" in message:
        assert f"python -c 'import {broken}'" in str(caught.value)
        assert "Traceback" in caplog.text


@pytest.mark.usefixtures("module")
def test_a_missing_module_says_where_it_was_looked_for() -> None:
    with pytest.raises(ModelError, match=f"no module 'absent_one', neither in {Path.cwd()} nor installed$"):
        open_model("absent_one:predict")
    with pytest.raises(ModelError, match=r"no module 'absent_one.two', neither in"):
        open_model("absent_one.two:predict")
    with pytest.raises(ModelError, match=r"no module 'absent_one.py', .* nor installed; write absent_one:predict"):
        open_model("absent_one.py:predict")


def test_inspect_shows_the_signature(module: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", f"{module}:predict"]) == 0
    text = capsys.readouterr().out
    assert "model: predict" in text
    assert "float32" in text
    assert "[?, 2]" in text
    assert "size:" not in text
    assert main(["inspect", f"{module}:Scale", "--option", "size=3"]) == 2
    assert capsys.readouterr().err == f"tensorwire: {module}:Scale: Scale has no option size: it takes by\n"


def test_it_is_served_in_one_process_and_in_several(start: Start, tmp_path: Path) -> None:
    (tmp_path / "served.py").write_text(SOURCE)
    for more in ([], ["--workers", "2"]):
        server = start(
            *("-m", "tensorwire", "serve", "served:Scale", "--option", "by=2", "--listen", "127.0.0.1:0", *more)
        )
        url = first_line(server).split()[2]
        with tw.Client(url) as client:
            assert client.infer({"x": X, "y": X})["z"].sum() == 4 * X.size
            assert json.loads(json.dumps([spec.name for spec in client.metadata().inputs])) == ["x", "y"]
        server.terminate()
        assert server.wait(60) == 0
