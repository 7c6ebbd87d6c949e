"""``tensorwire doctor``: what it finds, and what it advises."""

from __future__ import annotations

import importlib.util
import json
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

from tensorwire.servers.cli import main
from tensorwire.servers.doctor.advice import advise
from tensorwire.servers.doctor.builds import Host, tensorflow_build
from tensorwire.servers.doctor.floors import Copy, Trip

SHORT = ["--seconds", "0.01"]


@pytest.fixture
def host() -> Host:
    """A host without a fault."""
    found = Host()
    found.huge_pages, found.load, found.cores, found.open_files, found.backlog = "madvise", 0.0, 4.0, 65536, 4096
    found.buffers = {"net/ipv4/tcp_rmem": "4096\t131072\t6291456"}
    found.versions = dict.fromkeys(found.versions) | {"uvloop": "0.21"}
    found.notes, found.providers = {}, []
    return found


@pytest.mark.slow
def test_findings_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--json", "-", *SHORT]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["versions"]["numpy"] == version("numpy")
    assert found["memcpy"]["nbytes"] > 77e6
    assert found["memcpy"]["seconds"] > 0
    assert [(trip["size"], trip["transport"]) for trip in found["round_trips"]] == [
        ("4 kB", "TCP"),
        ("4 kB", "UNIX socket"),
        ("77 MB", "TCP"),
        ("77 MB", "UNIX socket"),
    ]
    for trip in found["round_trips"]:
        assert trip["reached"] == trip["floor"] / trip["echo"] > 0
    assert isinstance(found["advice"], list)


@pytest.mark.slow
def test_findings_for_people(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json", str(tmp_path / "d.json"), *SHORT]) == 0
    out = capsys.readouterr().out
    for words in ("numpy", "uvloop", "kernel", "huge pages", "socket buffers", "warm copy", "77 MB each way, TCP"):
        assert words in out
    assert json.loads((tmp_path / "d.json").read_text())["host"]


def test_builds_of_onnx_runtime() -> None:
    pytest.importorskip("onnxruntime")
    assert "CPUExecutionProvider" in Host().providers
    assert "CPU" in Host().rows()["ONNX Runtime on"]


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["doctor", "--json", str(tmp_path / "no/d.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_process_that_does_not_start(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert main(["doctor", *SHORT]) == 2
    assert "has ended with exit code 1" in capsys.readouterr().err


def test_nothing_is_off(host: Host) -> None:
    assert advise(host, Copy(77_000_000, 0.01), [Trip("TCP", "77 MB", 0.03, 0.035)]) == []


@pytest.mark.parametrize(
    ("attribute", "value", "words"),
    [
        ("huge_pages", "never", "transparent huge pages are off"),
        ("versions", {"uvloop": None, "onnxruntime": None, "onnxruntime-gpu": None}, "uvloop is not installed"),
        ("versions", {"uvloop": "1", "onnxruntime": "1", "onnxruntime-gpu": "1"}, "both installed"),
        ("versions", {"uvloop": "1", "onnxruntime": None, "onnxruntime-gpu": "1"}, "finds no CUDA"),
        ("versions", {"uvloop": "1", "onnxruntime": "1", "onnxruntime-gpu": None}, "cannot be imported"),
        ("notes", {"tensorflow": "CPU build, oneDNN off"}, "TF_ENABLE_ONEDNN_OPTS=1 switches it on"),
        ("buffers", {"net/ipv4/tcp_wmem": "4096 16384 65536"}, "net.ipv4.tcp_wmem ends at 65,536 bytes"),
        ("open_files", 256, "only 256 files"),
        ("backlog", 128, "cut off at 128"),
        ("load", 3.0, "the host is busy"),
        ("cores", 1.0, "one core"),
    ],
)
def test_what_is_off_is_one_line(host: Host, attribute: str, value: object, words: str) -> None:
    setattr(host, attribute, value)
    (line,) = advise(host)
    assert words in line
    assert "\n" not in line


def test_slow_figures_are_pointed_out(host: Host) -> None:
    found = advise(host, Copy(77_000_000, 0.1), [Trip("TCP", "77 MB", 0.03, 0.1), Trip("TCP", "4 kB", 1.0, 9.0)])
    assert len(found) == 2
    assert "0.8 GB/s" in found[0]
    assert "echo reaches 30%" in found[1]


def test_a_switch_that_is_set_is_named(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", "false")
    host.notes = {"tensorflow": "CPU build, oneDNN off"}
    assert "unset TF_ENABLE_ONEDNN_OPTS=false" in advise(host)[0]


def test_what_versions_tell(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    host.versions["torch"] = "2.9.0+cpu"
    assert host._note("torch") == "CPU only, oneDNN built in"
    host.versions["torch"] = "2.9.0+cu128"
    assert host._note("torch") == "CUDA 128, oneDNN built in"


@pytest.mark.slow
@pytest.mark.parametrize(("setting", "state"), [("False", "off"), ("true", "on")])
def test_what_tensorflow_says_of_itself_is_what_it_does(
    monkeypatch: pytest.MonkeyPatch, setting: str, state: str
) -> None:
    """TensorFlow takes words too, in any case; each setting is read by a process of its own."""
    if importlib.util.find_spec("tensorflow") is None:
        pytest.skip("TensorFlow is asked")
    monkeypatch.setenv("TF_ENABLE_ONEDNN_OPTS", setting)
    assert tensorflow_build().endswith(f" build, oneDNN {state}")


def test_a_tensorflow_that_cannot_be_imported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tensorflow.py").write_text("raise ImportError('broken')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert tensorflow_build() == "cannot be imported"
