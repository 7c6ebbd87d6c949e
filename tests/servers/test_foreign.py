"""Formats that no engine reads are named, with what to do instead."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tensorwire.servers.engines.foreign import foreign_format
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.model import ModelError

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
MODELS = Path(DATA or "", "simple_tensorflow_serving")


def made(folder: Path, name: str) -> Path:
    """A file or folder of the format, with as much in it as tells."""
    path = folder / name
    if name == "spark":
        (path / "metadata").mkdir(parents=True)
        meta = '{"class":"org.apache.spark.ml.PipelineModel","timestamp":1,"sparkVersion":"3.5.1","uid":"x"}'
        (path / "metadata/part-00000").write_text(meta)
    elif name == "model.zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("model.ini", "[info]\nh2o_version = 3.46\n")
    else:
        content = {
            "model.pmml": b'<?xml version="1.0"?>\n<PMML xmlns="http://www.dmg.org/PMML-4_2" version="4.2"></PMML>',
            "h2o": b"\x1c\xed\x093.46.0.1\x01\x8b",
        }
        path.write_bytes(content[name])
    return path


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pmml", "a PMML model, which is not supported; train it again"),
        ("h2o", r"a binary model of H2O 3\.46\.0\.1, which only that version reads; .*onnxmltools\.convert_h2o"),
        ("model.zip", r"an H2O MOJO, which is not supported; .*onnxmltools\.convert_h2o"),
        ("spark", r"a PipelineModel of Spark ML 3\.5\.1, .*onnxmltools\.convert_sparkml"),
    ],
)
def test_a_foreign_format_is_named(tmp_path: Path, name: str, message: str) -> None:
    path = made(tmp_path, name)
    with pytest.raises(ModelError, match=message) as caught:
        load_model(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.skipif(not DATA, reason="TENSORWIRE_TEST_DATA is not set")
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("h2o_prostate_model/GLM_model_python_1525255083960_17", r"a binary model of H2O 3\.18\.0\.8"),
        ("mllib_lr_model", r"a LogisticRegressionModel of Spark ML 2\.3\.2"),
        ("pmml_iris/DecisionTreeIris.pmml", "a PMML model"),
    ],
)
def test_files_that_users_have(name: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        load_model(MODELS / name)


def test_other_files_are_nobodys(tmp_path: Path) -> None:
    contents = {
        "empty": b"",
        "text": b"<p>PMML",
        "zip": b"PK\x03\x04broken",
        "magic": b"\x1c\xedxyz",
        "zeros": bytes(99),
    }
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
        assert foreign_format(tmp_path / name) is None
        with pytest.raises(ModelError, match="not a format of a known engine"):
            load_model(tmp_path / name)
    (tmp_path / "folder/metadata").mkdir(parents=True)
    assert foreign_format(tmp_path / "folder") is None
    (tmp_path / "folder/metadata/part-0").write_text("{}")
    assert foreign_format(tmp_path / "folder") is None
    assert foreign_format(tmp_path / "absent") is None
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("something", "else")
    assert foreign_format(tmp_path / "other.zip") is None
