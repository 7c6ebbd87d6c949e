"""The file beside a model that declares its tensors."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tensorwire import TensorSpec
from tensorwire.servers.engines.signature_file import Declared, declared_beside, read_declared
from tensorwire.servers.model import ModelError


def written(folder: Path, content: Any) -> Path:
    path = folder / "m.signature.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_both_ways_to_write_a_tensor(tmp_path: Path) -> None:
    text = {"inputs": ["x:float32[?, 3]", "y"], "outputs": [{"name": "z", "dtype": "bfloat16", "shape": ["?", -1, 4]}]}
    assert read_declared(written(tmp_path, text)) == Declared(
        (TensorSpec("x", np.float32, (-1, 3)), TensorSpec("y")),
        (TensorSpec("z", ml_dtypes.bfloat16, (-1, -1, 4)),),
    )


def test_toml(tmp_path: Path) -> None:
    path = tmp_path / "m.signature.toml"
    path.write_text('description = "d"\ninputs = ["x:int64[2]"]\n[[outputs]]\nname = "y"\ndescription = "one"\n')
    assert read_declared(path) == Declared((TensorSpec("x", np.int64, (2,)),), (TensorSpec("y", None, (), "one"),), "d")


def test_it_is_found_by_the_models_name(tmp_path: Path) -> None:
    model = tmp_path / "m.v2.pt"
    assert declared_beside(model) == Declared()
    (tmp_path / "m.v2.signature.toml").write_text('inputs = ["a"]')
    assert declared_beside(model).inputs == (TensorSpec("a"),)
    (tmp_path / "m.v2.signature.json").write_text('{"inputs": ["b"]}')
    assert declared_beside(model).inputs == (TensorSpec("b"),)  # JSON is looked for first


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "it holds no table with inputs and outputs"),
        ({"input": []}, "unknown key 'input': the keys are inputs, outputs, description"),
        ({"inputs": "x"}, "inputs is no list"),
        ({"inputs": [3]}, r"inputs\[0\]: 3 is neither text such as 'x:float32\[\?, 4\]' nor a table"),
        ({"inputs": ["x", "x"]}, "inputs has 'x' twice"),
        ({"outputs": ["x:flaot32"]}, r"outputs\[0\]: .*unknown dtype 'flaot32'"),
        ({"inputs": [{"dtype": "float32"}]}, r"inputs\[0\]: it has no name"),
        ({"inputs": [{"name": 3}]}, "it has no name"),
        ({"inputs": [{"name": "x", "dtype": 3}]}, "dtype and description are text"),
        (
            {"inputs": [{"name": "x", "type": "int8"}]},
            "unknown key 'type': the keys of a tensor are name, dtype, shape",
        ),
        ({"inputs": [{"name": "x", "shape": 3}]}, "shape 3 is no list"),
        ({"inputs": [{"name": "x", "shape": [1.5]}]}, r"shape \[1.5\]: 1.5 is not a size"),
        ({"inputs": [{"name": "x", "shape": [True]}]}, "True is not a size"),
        ({"inputs": [{"name": "x", "shape": [-2]}]}, "-2 is not a size"),
        ({"inputs": [{"name": "x", "shape": [2**63]}]}, "is not a size"),
        ({"description": 3}, "description is no text"),
        ({"description": "x" * (1 << 20)}, "larger than 1048576 bytes, so it is no signature file"),
    ],
)
def test_mistakes_are_told_with_the_file_and_the_place(tmp_path: Path, content: Any, message: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(ModelError, match=message) as caught:
        read_declared(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_bytes_that_are_no_text_and_a_file_that_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "m.signature.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ModelError, match="not TOML"):
        read_declared(path)
    with pytest.raises(ModelError, match="No such file"):
        read_declared(tmp_path / "missing.json")
