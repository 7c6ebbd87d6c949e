"""``tensorwire config``: every mistake a line, a table when all is right, and what another format cannot say."""

from __future__ import annotations

from pathlib import Path

import pytest

from tensorwire.servers.cli import main


def words(text: str) -> str:
    """The words of a table, without its frame."""
    return " ".join("".join(" " if not c.isascii() else c for c in text).split())


@pytest.fixture
def models(tmp_path: Path) -> Path:
    for number in ("1", "2"):
        (tmp_path / "a" / number).mkdir(parents=True)
    return tmp_path


def test_check_shows_the_models(
    models: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    file = models / "models.toml"
    file.write_text(
        f"""[models.a]
path = "{models / "a"}"
labels = {{ stable = 1, canary = 2 }}
traffic = {{ stable = 95, canary = 5 }}
shadow = "canary"
pinned = true
settle = 3
[models.b]
path = "{models / "b"}"
platform = "onnx"
options = {{ device = "cuda" }}
versions = [1, 3]
"""
    )
    assert main(["config", "check", str(file)]) == 0
    out = words(capsys.readouterr().out)
    row = "by its files latest stable=1, canary=2 traffic stable=95 canary=5; shadow canary; settle 3; pinned true"
    assert f"a (default) {models / 'a'} {row}" in out
    assert f"b {models / 'b'} (not there) onnx 1, 3 options device" in out
    assert "model 'a': label 'stable': version 1 is not served now: there are 2" in out
    assert "label 'canary': version" not in out
    assert "2 models, 1 base paths cannot be read: no mistakes" in out


def test_check_tells_every_mistake_in_a_line_of_its_own(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = models / "models.toml"
    file.write_text(
        'default = "z"\n[models.a]\npath = "a"\nengine = "tensorfow"\nversions = [1]\nlabels = { stable = 9 }\n'
    )
    assert main(["config", "check", str(file)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert [line.partition(f"{file}: line ")[2][0] for line in lines] == ["1", "3", "4", "6"]
    assert "unknown engine 'tensorfow' (did you mean 'tensorflow'?)" in lines[2]
    assert lines[3].endswith("label 'stable' names version 9, but only 1 are served")


def test_check_tells_what_has_no_effect(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = models / "models.json"
    file.write_text('{"model_config_list": [{"name": "a", "base_path": "/a", "session_config": {"x": 1}}]}')
    assert main(["config", "check", str(file)]) == 0
    assert "line 1: model 1 of model_config_list: session_config: x has no effect here" in words(
        capsys.readouterr().out
    )


def test_convert_tells_what_is_lost(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = models / "models.txt"
    file.write_text(f'model_config_list {{ config {{ name: "a" base_path: "{models / "a"}" }} }}')
    assert main(["config", "check", str(file)]) == 0
    assert "1 models: no mistakes" in capsys.readouterr().out
    ours = models / "models.toml"
    assert main(["config", "convert", str(file), "--output", str(ours)]) == 0
    assert ours.read_text() == f'[models.a]\npath = "{models / "a"}"\n'
    assert capsys.readouterr().err == ""
    ours.write_text(ours.read_text() + "settle = 3\nwarm_up = false\n")
    assert main(["config", "convert", str(ours), "--to", "tfs"]) == 0
    captured = capsys.readouterr()
    assert 'base_path: "' in captured.out
    assert captured.err == "model 'a': settle = 3 is left out\nmodel 'a': warm_up = False is left out\n"
    assert main(["config", "convert", str(ours), "--to", "sts"]) == 0
    captured = capsys.readouterr()
    assert '"platform": "tensorflow"' in captured.out
    assert "model 'a': settle = 3 is left out" in captured.err and "versions is left out" in captured.err
    ours.write_text(ours.read_text() + "traffic = { 1 = 1 }\n")
    assert main(["config", "convert", str(ours), "--to", "tfs"]) == 2
    assert "has no place for traffic" in capsys.readouterr().err
    file.write_text("model_config_list { conf {} }")
    assert main(["config", "check", str(file)]) == 2
    assert "line 1: " in capsys.readouterr().err
