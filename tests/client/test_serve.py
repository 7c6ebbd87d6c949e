"""serve: hands over to the server package, or says how to install it."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

import pytest

import tensorwire as tw

APP = "tensorwire.servers.app"


def test_arguments_are_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[tuple[object, dict[str, Any]]] = []
    app = ModuleType(APP)
    app.serve_model = lambda model, **options: calls.append((model, options))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "tensorwire.servers", ModuleType("tensorwire.servers"))
    monkeypatch.setitem(sys.modules, APP, app)
    tw.serve("model.onnx")
    tw.serve(len, listen="unix:/run/x.sock", workers=2)
    assert calls == [
        ("model.onnx", {"listen": "127.0.0.1:9000"}),
        (len, {"listen": "unix:/run/x.sock", "workers": 2}),
    ]


class Missing:
    """A finder that says that one module is not installed, when the application is imported."""

    def __init__(self, name: str) -> None:
        self.name = name

    def find_spec(self, name: str, *details: object) -> None:
        if name == APP:
            raise ModuleNotFoundError(f"No module named {self.name!r}", name=self.name)


@pytest.mark.parametrize("name", ["uvloop", "starlette.routing", "tensorwire.servers"])
def test_a_missing_requirement_names_the_extra(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setitem(sys.modules, "tensorwire.servers", ModuleType("tensorwire.servers"))
    monkeypatch.delitem(sys.modules, APP, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(name), *sys.meta_path])
    if name != "tensorwire.servers":
        sys.modules["tensorwire.servers"].__path__ = []
    with pytest.raises(ImportError, match=r"pip install 'tensorwire\[serve\]'") as caught:
        tw.serve("model.onnx")
    assert caught.value.name is not None
    assert caught.value.name.startswith(("uvloop", "starlette", "tensorwire.servers"))


def test_a_fault_of_our_own_is_not_blamed_on_the_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    package = ModuleType("tensorwire.servers")
    package.__path__ = []
    monkeypatch.setitem(sys.modules, "tensorwire.servers", package)
    monkeypatch.delitem(sys.modules, APP, raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing("tensorwire.servers.other"), *sys.meta_path])
    with pytest.raises(ModuleNotFoundError, match=r"tensorwire\.servers\.other"):
        tw.serve("model.onnx")
