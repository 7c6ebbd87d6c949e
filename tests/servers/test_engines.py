"""Finding engines, and the two that need no framework: echo and functions."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tensorwire import TensorSpec
from tensorwire.servers.engines import registry
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.model import ModelError, RequestError
from tensorwire.servers.repository import local
from tensorwire.servers.repository.local import open_model

A, B = np.arange(3.0), np.arange(4)


class FakeEngine:
    name = "fake"

    def recognizes(self, path: Path) -> bool:
        return path.suffix == ".fake"

    def load(self, path: Path, *, options: Any) -> Any:
        model = EchoModel()
        model.description = repr(options)
        return model


fake = FakeEngine()


@pytest.fixture
def points(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Three engines: one that works, one whose module is missing, ONNX Runtime's."""
    monkeypatch.setitem(sys.modules, "fake_engine_module", sys.modules[__name__])
    found = EntryPoints(
        EntryPoint(name, value, registry.GROUP)
        for name, value in (
            ("broken", "no_such_module_of_ours:ENGINE"),
            ("fake", "fake_engine_module:fake"),
            ("onnx", "tensorwire.servers.engines.ort:ENGINE"),
        )
    )
    monkeypatch.setattr(registry, "entry_points", lambda group: found.select(group=group))
    registry._points.cache_clear()
    yield
    registry._points.cache_clear()


@pytest.mark.usefixtures("points")
def test_an_engine_is_found_by_what_it_recognizes_or_by_name(tmp_path: Path) -> None:
    (tmp_path / "m.fake").touch()
    (tmp_path / "m.bin").touch()
    assert registry.engine_names() == ("broken", "fake", "onnx")
    assert registry.load_model(tmp_path / "m.fake", options={"a": 1}).description == "{'a': 1}"
    assert registry.load_model(tmp_path / "m.bin", engine="fake").engine == "echo"


@pytest.mark.usefixtures("points")
@pytest.mark.parametrize(
    ("file", "engine", "message"),
    [
        ("absent.fake", None, "no such file: .*absent.fake"),
        (
            "m.bin",
            None,
            r"m.bin: not a format of a known engine \(broken, fake, onnx\).*'broken' cannot be used",
        ),
        ("m.bin", "other", "unknown engine 'other': there are broken, fake, onnx"),
        ("m.bin", "broken", "engine 'broken' cannot be used: ModuleNotFoundError"),
        ("", None, "not a format of a known engine"),
    ],
)
def test_what_cannot_be_loaded_says_why(tmp_path: Path, file: str, engine: str | None, message: str) -> None:
    (tmp_path / "m.bin").touch()
    with pytest.raises(ModelError, match=message):
        registry.load_model(tmp_path / file, engine=engine)


@pytest.mark.usefixtures("points")
def test_a_missing_framework_names_the_install_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "m.onnx").touch()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ModelError, match=r"run: pip install 'tensorwire\[onnx\]'"):
        registry.load_model(tmp_path / "m.onnx")


@pytest.mark.usefixtures("points")
def test_a_model_has_the_name_of_its_file(tmp_path: Path) -> None:
    (tmp_path / "resnet.v2.fake").touch()
    assert open_model(tmp_path / "resnet.v2.fake").name == "resnet.v2"
    with pytest.raises(ModelError, match=r"no such file: absent\.fake"):
        open_model("absent.fake")


def test_without_a_path_the_embedded_model_is_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    def load(path: Path, **options: Any) -> EchoModel:
        assert path.is_file()
        return EchoModel()

    monkeypatch.setattr(local, "load_model", load)
    assert open_model().name == "digits"


def test_finding_engines_does_not_import_their_frameworks(tmp_path: Path) -> None:
    import subprocess

    script = (
        "import sys; from tensorwire.servers.engines import ort; from tensorwire.servers import service;"
        "from pathlib import Path; assert ort.ENGINE.recognizes(Path(__import__('sys').argv[1]));"
        "assert 'onnxruntime' not in sys.modules and 'ml_dtypes' not in sys.modules"
    )
    path = tmp_path / "m.onnx"
    path.touch()
    subprocess.run([sys.executable, "-c", script, str(path)], check=True)


def test_echo_returns_the_very_arrays() -> None:
    model = EchoModel()
    assert model.inline
    assert dict(model.run("", {"a": A, "b": B}, ())) == {"a": A, "b": B}
    found = model.run("", {"a": A, "b": B}, ("b", "y"))
    assert found["b"] is B
    assert found["y"] is B
    with pytest.raises(RequestError, match="unknown output 'z': 1 tensors came") as caught:
        model.run("", {"a": A}, ("y", "z"))
    assert caught.value.code == 400


@pytest.mark.parametrize(
    ("result", "asked", "declared", "names"),
    [
        ({"y": A}, (), (), ["y"]),
        (A, (), (), ["0"]),
        (A, ("y",), (), ["y"]),
        (A, (), ("d",), ["d"]),
        ((A, B), (), (), ["0", "1"]),
        ([A, B], ("p", "q"), (), ["p", "q"]),
        ([A, B], ("e", "d"), ("d", "e"), ["d", "e"]),  # in the declared order, whatever was asked for first
        ([A, B], ("p",), ("d", "e"), ["d", "e"]),
    ],
)
def test_a_functions_results_get_names(result: Any, asked: Any, declared: Any, names: list[str]) -> None:
    model = FunctionModel(lambda inputs: result, outputs=[TensorSpec(name) for name in declared])
    found = model.run("", {"x": A}, asked)
    assert list(found) == names
    assert found[names[0]] is A


def test_a_function_describes_itself() -> None:
    def double(inputs: dict[str, Any]) -> Any:
        """Twice the input.

        And more.
        """
        return inputs["x"] * 2

    model = FunctionModel(double, inputs=[TensorSpec("x", np.float32)], concurrency=3)
    assert (model.name, model.description, model.engine) == ("double", "Twice the input.", "function")
    assert (model.concurrency, model.inline, model.version) == (3, False, "1")
    assert not model.signatures[model.default_signature].any_inputs
    assert FunctionModel(lambda inputs: inputs).name == "function"
    assert FunctionModel(lambda inputs: inputs, name="n").name == "n"


def test_a_function_gets_a_dict_of_its_own() -> None:
    given = {"x": A}

    def clear(inputs: dict[str, Any]) -> Any:
        return inputs.pop("x")

    FunctionModel(clear).run("", given, ())
    assert given == {"x": A}
