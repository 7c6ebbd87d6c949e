"""The command line, in this process: what it prints, what it saves, and one line for every mistake."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.commands.values import UserError, describe, parse_size, shown, size_text
from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines.function import FunctionModel
from tensorwire.servers.fronts.limits import Limits

COMMANDS = ["serve", "infer", "bench", "doctor", "inspect", "version"]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    model = FunctionModel(
        lambda inputs: {"sum": inputs["a"] + inputs["b"], "text": np.array([b"one", b"two"], object)},
        name="adder",
        inputs=[tw.TensorSpec("a", np.float32, (-1,), "the first"), tw.TensorSpec("b", np.float32, (-1,))],
        outputs=[tw.TensorSpec("sum", np.float32, (-1,)), tw.TensorSpec("text", object, (2,))],
    )
    with BackgroundServer(model) as server:
        yield server.url


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with BackgroundServer(lambda inputs: inputs) as server:
        yield server.url


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", np.arange(3, dtype=np.float32))
    np.save("b.npy", np.ones(3, np.float32))
    np.save("object.npy", np.array([{}], object), allow_pickle=True)
    np.savez("many.npz", a=np.ones(1), b=np.ones(1))
    (tmp_path / "empty.npy").touch()
    (tmp_path / "text.txt").write_text("no model")
    (tmp_path / "broken.onnx").write_bytes(b"\x00\x01no model")
    return tmp_path


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a command that must fail; returns its one line."""
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("tensorwire: ")
    assert captured.err.count("\n") == 1
    return captured.err


def test_without_a_command_there_is_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    text = capsys.readouterr().out
    for command in COMMANDS:
        assert command in text


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Examples" in text
    assert f"tensorwire {command}" in text


def test_every_limit_is_an_option(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--help"]) == 0
    text = capsys.readouterr().out
    for field in dataclasses.fields(Limits):
        assert "--" + field.name.replace("_", "-") in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith(f"tensorwire {tw.__version__} (Python 3")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["frobnicate"], "frobnicate"),
        (["serve", "--bogus"], "--bogus"),
        (["serve", "no.onnx"], "no such file: no.onnx"),
        (["serve", "text.txt"], "text.txt: not a format of a known engine"),
        (["serve", "broken.onnx"], "broken.onnx: not an ONNX model"),
        (["serve", "--listen", "nowhere"], "--listen: 'nowhere' is not an address"),
        (["serve", "--listen", "127.0.0.1:99999"], "'127.0.0.1:99999' is not an address"),
        (["serve", "--max-body", "huge"], "--max-body: 'huge' is not a size"),
        (["serve", "--max-body", "0"], "--max-body must be at least 1 byte"),
        (["serve", "--threads", "0"], "--threads"),
        (["serve", "--threads", "many"], "--threads"),
        (["serve", "--drain-timeout", "-1"], "--drain-timeout"),
        (["serve", "--max-head", "0"], "--max-head must be at least 1 byte"),
        (["serve", "--memory-limit", "lots"], "--memory-limit: 'lots' is not a size"),
        (["serve", "--max-waiting", "-1"], "--max-waiting"),
        (["serve", "--max-queue", "-1"], "--max-queue"),
        (["serve", "--max-connections", "0"], "--max-connections"),
        (["serve", "--head-timeout", "0"], "--head-timeout must be above 0"),
        (["serve", "--body-timeout", "-3"], "--body-timeout must be above 0"),
        (["serve", "--idle-timeout", "0"], "--idle-timeout must be above 0"),
        (["serve", "--workers", "0"], "--workers"),
        (["serve", "--socket-mode", "rw"], "--socket-mode: 'rw' is not three octal digits"),
        (["serve", "--tls-key", "a.npy"], "need --tls-cert"),
        (["serve", "--echo", "--tls-cert", "none.pem"], "cannot read none.pem: No such file"),
        (["serve", "--echo", "--tls-cert", "text.txt"], "text.txt: no certificate with its key"),
        (["serve", "--echo", "--listen", "systemd"], "it has handed no socket to this process"),
        (["serve", "--option", "x"], "--option: 'x' is not KEY=VALUE"),
        (["serve", "--option", "colour=red"], "no option colour"),
        (["serve", "--engine", "steam"], "unknown engine 'steam'"),
        (["serve", "broken.onnx", "--echo"], "--echo is a model of its own: it takes no PATH"),
        (["serve", "--echo", "--threads", "2"], "--echo is a model of its own"),
        (["infer"], "url"),
        (["infer", "http://127.0.0.1:9"], "--input"),
        (["infer", "ftp://127.0.0.1", "--input", "a.npy"], "ftp://127.0.0.1"),
        (["infer", "http://127.0.0.1:1", "--input", "a.npy"], "cannot connect"),
        (["infer", "unix:///no/such/socket", "--input", "a.npy"], "cannot connect"),
        (["infer", "http://h", "--input", "x=no.npy"], "no such file: no.npy"),
        (["infer", "http://h", "--input", "x=text.txt"], "text.txt is not a .npy file"),
        (["infer", "http://h", "--input", "x=empty.npy"], "empty.npy is not a .npy file"),
        (["infer", "http://h", "--input", "x=object.npy"], "object.npy is not a .npy file"),
        (["infer", "http://h", "--input", "x=many.npz"], "several arrays"),
        (["infer", "http://h", "--input", "x=a.npy", "--input", "b.npy"], "either every --input"),
        (["infer", "http://h", "--input", "x=a.npy", "--input", "x=b.npy"], "--input x is given twice"),
        (["infer", "http://h", "--input", "a.npy", "-o", "no/y.npy"], "no such folder: no"),
        (["infer", "http://h", "--input", "a.npy", "-o", "y.npy", "-o", "z.npy"], "--output"),
        (["infer", "http://h", "--input", "a.npy", "-o", "y.npy", "-o", "z=z.npy"], "--output"),
        (["inspect"], "PATH|URL"),
        (["inspect", "no.onnx"], "no such file: no.onnx"),
        (["inspect", "text.txt"], "text.txt: not a format of a known engine"),
        (["inspect", "http://127.0.0.1:1"], "cannot connect"),
    ],
)
def test_every_mistake_is_one_line(
    capsys: pytest.CaptureFixture[str], folder: Path, args: list[str], words: str
) -> None:
    assert words.lower() in failure(capsys, *args).lower()


def test_port_in_use(capsys: pytest.CaptureFixture[str], url: str) -> None:
    pytest.importorskip("onnxruntime")
    address = url.removeprefix("http://")
    told = failure(capsys, "serve", "--listen", address)
    assert f"cannot listen on {address}: the address is in use" in told
    assert "--listen" in told


def test_infer_shows_what_came(capsys: pytest.CaptureFixture[str], folder: Path, url: str) -> None:
    assert main(["infer", url, "--input", "a=a.npy", "-i", "b=b.npy"]) == 0
    assert capsys.readouterr().out == "sum: float32 [3] [1., 2., 3.]\ntext: string [2] [b'one', b'two']\n"


def test_infer_saves_outputs_by_name(capsys: pytest.CaptureFixture[str], folder: Path, url: str) -> None:
    args = ["--input", "a.npy", "--input", "b.npy", "--output", "text=t.npy", "--output", "sum=s.npy"]
    assert main(["infer", url, *args]) == 0
    out = capsys.readouterr().out
    assert "saved as t.npy" in out
    assert np.array_equal(np.load("s.npy"), np.arange(3, dtype=np.float32) + 1)
    assert np.load("t.npy").tolist() == [b"one", b"two"]


def test_infer_saves_the_only_output(folder: Path, echo: str) -> None:
    assert main(["infer", echo, "--input", "x=a.npy", "--output", "y.npy"]) == 0
    assert np.array_equal(np.load("y.npy"), np.load("a.npy"))


def test_infer_of_several_outputs_into_one_file(capsys: pytest.CaptureFixture[str], folder: Path, url: str) -> None:
    told = failure(capsys, "infer", url, "--input", "a.npy", "--input", "b.npy", "--output", "y.npy")
    assert "2 outputs came (sum, text)" in told
    assert not (folder / "y.npy").exists()


def test_infer_passes_on_what_the_server_says(capsys: pytest.CaptureFixture[str], folder: Path, url: str) -> None:
    assert "unknown input 'z'" in failure(capsys, "infer", url, "--input", "z=a.npy")


def test_bfloat16_is_saved_as_float32(folder: Path) -> None:
    model = FunctionModel(lambda inputs: {"y": inputs["x"].astype(ml_dtypes.bfloat16)})
    with BackgroundServer(model) as server:
        assert main(["infer", server.url, "--input", "x=a.npy", "--output", "y.npy"]) == 0
    assert np.array_equal(np.load("y.npy"), np.load("a.npy"))
    assert np.load("y.npy").dtype == np.float32


def test_inspect_server(capsys: pytest.CaptureFixture[str], url: str) -> None:
    assert main(["inspect", url]) == 0
    out = capsys.readouterr().out
    assert "model: adder" in out
    assert f"server: tensorwire/{tw.__version__}" in out
    for words in ("input", "output", "sum", "float32", "[?]", "string", "the first"):
        assert words in out


def test_inspect_file(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["inspect", str(DIGITS)]) == 0
    out = capsys.readouterr().out
    for words in ("model: digits", "engine: onnxruntime", "producer: tensorwire", "opset: 17", "[?, 8, 8]"):
        assert words in out
    assert f"size: {size_text(DIGITS.stat().st_size)}" in out


@pytest.mark.parametrize(
    ("text", "nbytes"),
    [
        ("1", 1),
        ("64k", 64_000),
        ("1 KiB", 1024),
        ("512MiB", 1 << 29),
        ("1.5GB", 1_500_000_000),
        ("2gib", 2 << 30),
    ],
)
def test_sizes(text: str, nbytes: int) -> None:
    assert parse_size(text, "--x") == nbytes


@pytest.mark.parametrize("text", ["", "x", "-1", "1XB", "1e9", "nan", "0", "0.1"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(UserError, match="--x"):
        parse_size(text, "--x")


def test_texts() -> None:
    assert size_text(999) == "999 bytes"
    assert size_text(136_123) == "136.1 kB"
    assert size_text(77_070_000) == "77.1 MB"
    assert describe(np.zeros((20, 20), np.float32)) == "float32 [20, 20]"
    assert shown("a\x1b[31mb\n") == "a\ufffd[31mb\ufffd"


def test_without_the_extra_it_says_what_to_install(tmp_path: Path) -> None:
    script = "import sys; sys.modules['typer'] = None; from tensorwire.__main__ import main; sys.exit(main())"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "tensorwire: the command line needs typer: pip install 'tensorwire[serve]'\n"
