"""PyTorch: files that are damaged, foreign, or could run code. Code in them would leave a mark if it were run."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import torch
from torch_models import ConvNet, Identity, export, script

from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.engines.pt.guard import Unsafe, check_program
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import ModelError


def load(path: Path, **options: Any) -> Any:
    return ENGINE.load(path, options=options)


class Bomb:
    """A pickle that makes a folder when it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def mark(tmp_path: Path) -> Path:
    return tmp_path / "code-ran"


def rewritten(path: Path, change: Callable[[str, bytes], bytes], extra: dict[str, bytes] | None = None) -> Path:
    """The same archive with other contents; names are given without the archive's own folder."""
    with zipfile.ZipFile(path) as source:
        entries = {name: change(name.partition("/")[2], source.read(name)) for name in source.namelist()}
    root = next(iter(entries)).partition("/")[0]
    with zipfile.ZipFile(path, "w") as target:
        for name, data in (entries | {f"{root}/{name}": data for name, data in (extra or {}).items()}).items():
            target.writestr(name, data)
    return path


def program(path: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    """The same exported program with another model.json."""

    def changed(name: str, data: bytes) -> bytes:
        if name != "models/model.json":
            return data
        found = json.loads(data)
        change(found)
        return json.dumps(found).encode()

    return rewritten(path, changed)


@pytest.fixture
def exported(tmp_path: Path) -> Path:
    batch = torch.export.Dim("batch", min=1, max=8)
    return export(ConvNet(), tmp_path / "exported.pt2", torch.zeros(2, 3, 8, 8), dynamic_shapes=[{0: batch}])


@pytest.mark.parametrize("suffix", [".pt", ".pth", ".pt2", ".safetensors"])
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty"),
        (b"\x89HDF\r\n\x1a\n" + b"\0" * 100, "the file is an HDF5 file, perhaps Keras's"),
        (b"\x0a\x0f\x0a\x01x\x12\x0bPlaceholder" + b"\0" * 100, "no format of PyTorch's"),
        (b"{'not': 'a model'}", "the file is text"),
        (b"PK\x03\x04" + b"\0" * 100, "the file is cut short or damaged: its zip directory is missing"),
        (pickle.dumps({"a": 1}), "the file is a pickle that PyTorch did not write"),
        (b"\xff" * 16, "no format of PyTorch's"),
    ],
    ids=["empty", "hdf5", "graphdef", "text", "half a zip", "pickle", "noise"],
)
def test_foreign_files(tmp_path: Path, content: bytes, message: str, suffix: str) -> None:
    path = tmp_path / f"m{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=f"m{suffix}: not a PyTorch model: {message}") as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("config.json", "metadata.json", "model.weights.h5"), "the file is a Keras model"),
        (("word/document.xml",), "a zip archive that PyTorch did not write"),
    ],
)
def test_foreign_archives(tmp_path: Path, names: tuple[str, ...], message: str) -> None:
    path = tmp_path / "m.pt"
    with zipfile.ZipFile(path, "w") as archive:
        for name in names:
            archive.writestr(name, b"{}")
    with pytest.raises(ModelError, match=f"not a PyTorch model: .*{message}"):
        load(path)


@pytest.mark.parametrize("kind", ["script", "export", "weights", "old weights", "safetensors"])
@pytest.mark.parametrize("part", [0.2, 0.7, 0.99])
def test_truncated_files(tmp_path: Path, kind: str, part: float) -> None:
    path = tmp_path / "m.pt"
    module = ConvNet()
    if kind == "script":
        script(module, path)
    elif kind == "export":
        export(module, path, torch.zeros(2, 3, 8, 8))
    elif kind == "safetensors":
        pytest.importorskip("safetensors.torch").save_file(module.state_dict(), path)
    else:
        torch.save(module.state_dict(), path, _use_new_zipfile_serialization=kind == "weights")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises(ModelError) as caught:
        load(path, **({} if kind in ("script", "export") else {"module": "torch_models:ConvNet"}))
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


@pytest.mark.parametrize("kind", ["script", "export"])
def test_an_archive_without_its_weights(tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "m.pt"
    if kind == "script":
        script(ConvNet(), path)
    else:
        export(ConvNet(), path, torch.zeros(2, 3, 8, 8))
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist() if not name.endswith(("data/0", "weight_0"))}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    capfd.readouterr()
    with pytest.raises(ModelError, match="damaged, or cut short"):
        load(path)
    assert capfd.readouterr().err == ""  # the error is told once


def test_an_operator_that_is_missing_from_torchscript(tmp_path: Path) -> None:
    path = rewritten(
        script(ConvNet(), tmp_path / "m.pt"),
        lambda name, data: data.replace(b"torch.relu", b"ops.ours.relu") if name.endswith(".py") else data,
    )
    with pytest.raises(
        ModelError, match=r"needs the operator ours::relu, which PyTorch \S+ does not have; .*--custom-op"
    ):
        load(path)


def test_an_operator_that_is_missing_from_an_exported_program(exported: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["graph_module"]["graph"]["nodes"][0]["target"] = "torch.ops.ours.conv2d.default"

    with pytest.raises(ModelError, match=r"needs the operator ours::conv2d\.default, which PyTorch"):
        load(program(exported, change))


def test_a_whole_module_takes_permission(tmp_path: Path) -> None:
    path = tmp_path / "m.pt"
    torch.save(Identity(), path)
    with pytest.raises(
        ModelError, match=r"holds objects of Python's \(torch_models.Identity\).* allow it with --allow-pickle"
    ):
        load(path)
    assert load(path, allow_pickle="1").run("", {"x": np.ones(2)}, ())["output"].tolist() == [1, 1]
    with pytest.raises(ModelError, match="holds a whole module, Identity; leave out the option module"):
        load(path, allow_pickle=True, module="torch_models:Identity")


@pytest.mark.parametrize("new", [True, False])
def test_a_pickle_is_not_run(tmp_path: Path, mark: Path, new: bool) -> None:
    path = tmp_path / "m.pt"
    torch.save({"weight": torch.ones(1), "bomb": Bomb(mark)}, path, _use_new_zipfile_serialization=new)
    for options in ({}, {"module": "torch_models:ConvNet"}):
        with pytest.raises(ModelError, match=r"holds objects of Python's .* allow it with --allow-pickle"):
            load(path, **options)
    assert not mark.exists()
    with pytest.raises(ModelError):
        load(path, allow_pickle=True)
    assert mark.exists()  # so the pickle does what it is here for


def test_a_pickle_among_the_traced_inputs_of_torchscript_is_not_run(tmp_path: Path, mark: Path) -> None:
    path = script(Identity(), tmp_path / "m.pt")
    rewritten(path, lambda name, data: data, {"traced_inputs.pkl": pickle.dumps({"forward": [Bomb(mark)]}, 2)})
    assert load(path).run("", {"x": np.ones(2)}, ())["output"].tolist() == [1, 1]
    assert not mark.exists()


@pytest.mark.parametrize("name", ["data.pkl", "constants.pkl"])
def test_pythons_pickles_in_torchscript_are_not_run(tmp_path: Path, mark: Path, name: str) -> None:
    path = script(Identity(), tmp_path / "m.pt")
    rewritten(path, lambda entry, data: pickle.dumps(Bomb(mark), 2) if entry == name else data)
    with pytest.raises(ModelError):
        load(path)
    assert not mark.exists()


def saved(thing: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(thing, buffer)
    return buffer.getvalue()


def test_pickles_in_an_exported_program_are_not_run(exported: Path, mark: Path) -> None:
    whole = exported.read_bytes()
    bomb = saved((Bomb(mark),))

    def weights(name: str, data: bytes) -> bytes:
        if name == "data/weights/weight_0":
            return bomb
        return data.replace(b'"use_pickle": false', b'"use_pickle": true') if name.endswith("_config.json") else data

    def constants(name: str, data: bytes) -> bytes:
        opaque = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True, "tensor_meta": None}
        return json.dumps({"config": {"c": opaque}}).encode() if name.endswith("constants_config.json") else data

    changes: list[tuple[Callable[[str, bytes], bytes], dict[str, bytes], str]] = [
        (lambda name, data: bomb if "sample_inputs" in name else data, {}, "a pickle of more than tensors"),
        (weights, {}, "a pickle of more than tensors"),
        (lambda name, data: data, {"data/weights/model.pt": bomb}, "a pickle of more than tensors"),
        (constants, {"data/constants/opaque_obj_0": pickle.dumps(Bomb(mark))}, "objects of classes of its own"),
        (lambda name, data: data, {"data/aotinductor/model/x.so": b""}, "compiled code"),
    ]
    for change, extra, message in changes:
        exported.write_bytes(whole)
        with pytest.raises(
            ModelError, match=f"could run code of its maker's: .*{message}.*allow it with --allow-pickle"
        ):
            load(rewritten(exported, change, extra))
        assert not mark.exists(), message


def test_the_old_layout_of_exported_programs_is_not_fallen_back_to(exported: Path, mark: Path) -> None:
    """What torch reads when the new layout fails, by a reader of its own."""
    with zipfile.ZipFile(exported, "a") as archive:
        archive.writestr("version", "8.20")
        archive.writestr("serialized_state_dict.pt", saved((Bomb(mark),)))
    with pytest.raises(ModelError, match=r"the layout of PyTorch 2\.7 and older; save it again"):
        load(exported)
    assert not mark.exists()


def run_by_name(found: dict[str, Any], key: str, value: Any) -> None:
    graph = found["graph_module"]
    call = next(entry for entry in graph["module_call_graph"] if entry["signature"])["signature"]
    if key == "expr_str":
        for size in graph["graph"]["sym_int_values"].values():
            size["as_expr"]["expr_str"] = value
        for tensor in graph["graph"]["tensor_values"].values():
            for size in tensor["sizes"]:
                if "as_expr" in size:
                    size["as_expr"]["expr_str"] = value
    elif key == "guards_code":
        found["guards_code"] = [value]
    elif key == "target":
        graph["graph"]["nodes"][0]["target"] = value
    elif key == "name":
        graph["graph"]["nodes"][0]["name"] = value
    elif key == "forward_arg_names":
        call["forward_arg_names"] = [value]
    else:
        call[key] = json.dumps([1, {"type": "builtins.dict", "context": json.dumps([value]), "children_spec": []}])


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("expr_str", "__import__('os').mkdir('MARK')"),
        ("expr_str", "(lambda: open('MARK', 'w'))()"),
        ("expr_str", "Symbol.__class__"),
        ("expr_str", "Symbol(\"__import__('os').mkdir('MARK')\")"),
        ("expr_str", "lambdify(x, 'y')(1)"),
        ("guards_code", "open('MARK', 'w')"),
        ("guards_code", "[open('MARK', 'w') for _ in (1,)] == 1"),
        ("guards_code", "L['x'].size().__class__"),
        ("target", "torch.os.mkdir"),
        ("target", "torch.hub.load"),
        ("target", "torch.ops.load_library"),
        ("target", "torch.ops.aten.from_file.default"),
        ("target", "torch.ops.aten.sin.__class__"),
        ("target", "_operator.attrgetter"),
        ("target", "math.__loader__"),
        ("name", "x=open('MARK','w')"),
        ("name", 'a");open("MARK","w")#'),
        ("forward_arg_names", "x=open('MARK', 'w')"),
        ("in_spec", {"__enum__": True, "fqn": "os:mkdir", "name": "MARK"}),
        ("out_spec", json.dumps({"__enum__": True, "fqn": "os:mkdir", "name": "MARK"})),
    ],
)
def test_code_in_an_exported_program_is_not_run(exported: Path, mark: Path, key: str, code: Any) -> None:
    value = json.loads(json.dumps(code).replace("MARK", str(mark)))
    path = program(exported, lambda found: run_by_name(found, key, value))
    with pytest.raises(ModelError, match=r"could run code of its maker's: .*allow it with --allow-pickle"):
        load(path)
    assert not mark.exists()


def test_what_torch_writes_passes_the_guard(exported: Path) -> None:
    class Shapes(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor, n: int) -> tuple[Any, ...]:
            k = x.sum().to(torch.int64).item()
            torch._check(k >= 0)
            torch._check(k < 100)
            grown = torch.nn.functional.interpolate(y[None, None], scale_factor=1.5)
            return torch.cat([x, x])[1:], y.reshape(-1, 2), grown, torch.zeros(k), x.shape[0] / n

    sizes = {0: torch.export.Dim.AUTO, 1: torch.export.Dim.AUTO}
    path = export(
        Shapes(), exported, torch.zeros(8, 3), torch.zeros(6, 4), 3, dynamic_shapes={"x": sizes, "y": sizes, "n": None}
    )
    with zipfile.ZipFile(path) as archive:
        name = next(name for name in archive.namelist() if name.endswith("models/model.json"))
        found = json.loads(archive.read(name))
    assert "torch.ops.aten.cat.default" in check_program(found)
    model = load(path)
    assert [spec.name for spec in model.signatures["serving_default"].inputs] == ["x", "y"]  # n is what it was
    results = model.run("", {"x": np.ones((4, 3), np.float32), "y": np.ones((2, 4), np.float32)}, ())
    assert [y.shape for y in results.values()] == [(7, 3), (4, 2), (1, 1, 3, 6), (12,), ()]


@pytest.mark.parametrize(
    "text", ["", "(" * 5000, "1 +", "\0", "f'{x}'", "x if y else z", "x := 1", "*x", "a.b", "b'x'"]
)
def test_expressions_that_are_none(text: str) -> None:
    with pytest.raises(Unsafe):
        check_program({"expr_str": text})


def test_operators_that_are_written_as_pythons_pass_the_guard(tmp_path: Path) -> None:
    class Bits(torch.nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
            z = torch.cond(x.sum() > 0, lambda x: x + 1, lambda x: x - 1, (x,))
            return (x & y) | (x ^ y), x << 1, ~x, z

    x, y = np.int64([5, 6]), np.int64([3, 3])
    model = load(export(Bits(), tmp_path / "m.pt2", torch.tensor(x), torch.tensor(y)))
    found = model.run("", {"x": x, "y": y}, ())
    assert [v.tolist() for v in found.values()] == [((x & y) | (x ^ y)).tolist(), [10, 12], [-6, -7], [6, 7]]
