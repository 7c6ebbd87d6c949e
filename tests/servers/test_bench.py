"""``tensorwire bench``: real servers, short runs; what is counted and shown, never how fast it was."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from certificates import Authority
from waiting import PATIENCE, Gate

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.commands.bench_report import time_text
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.function import FunctionModel

SHORT = ["--duration", "0.3", "--warmup", "0.05"]


class Watch:
    """A model that keeps what it was sent, and fails when ``fails`` says so of a call's number."""

    def __init__(self, fails: Any = lambda number: False) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._fails = fails
        self.busy = threading.Event()  # set by the 20th call

    def __call__(self, inputs: dict[str, Any]) -> dict[str, Any]:
        self.shapes.append(inputs["x"].shape)
        if len(self.shapes) == 20:
            self.busy.set()
        if self._fails(len(self.shapes) - 1):
            raise RuntimeError("out of luck")
        return {"y": inputs["x"]}

    def model(self) -> FunctionModel:
        return FunctionModel(self, name="watched", inputs=[tw.TensorSpec("x", np.float32, (-1, 3))], inline=True)


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    with BackgroundServer(EchoModel()) as server:
        yield server.url


def figures(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> dict[str, Any]:
    """Run the command; the JSON it prints."""
    assert main(["bench", *args, "--json", "-"]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """Run a command that must fail; returns its one line."""
    assert main(["bench", *args]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1
    return captured.err


def test_tables_for_people(capsys: pytest.CaptureFixture[str], echo: str) -> None:
    assert main(["bench", echo, *SHORT, "--concurrency", "2"]) == 0
    out = capsys.readouterr().out
    for words in ("echo (tensorwire/", "x float32 [1, 1024], 4.2 kB", "closed loop, 2 connections, 1 process"):
        assert words in out
    for words in ("requests/s", "MB/s out", "errors", "client CPU", "p50", "p99.9", "max", "measured", "corrected"):
        assert words in out


def test_closed_loop(capsys: pytest.CaptureFixture[str], echo: str) -> None:
    found = figures(capsys, echo, *SHORT, "--concurrency", "3")
    nbytes = len(tw.encode(tw.Request({"x": np.zeros((1, 1024), np.float32)})))
    assert found["loop"] == "closed"
    assert found["rate"] is None
    assert found["connections"] == 3
    assert found["requests"] > 0
    assert found["errors"] == {}
    assert found["unsent"] == 0
    assert found["request_nbytes"] == nbytes
    assert found["nbytes_out_per_second"] == pytest.approx(found["requests"] * nbytes / found["seconds"])
    assert set(found["latency"]) == {"measured", "corrected"}
    for latency in found["latency"].values():
        order = [latency[name] for name in ("min", "p50", "p90", "p99", "p99.9", "max")]
        assert order == sorted(order)
        assert latency["distribution"][-1][0] == 100
        assert latency["distribution"][-1][1] == latency["max"]


def test_each_answer_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(fails=lambda number: number % 5 == 4)
    with BackgroundServer(watch.model()) as server:
        found = figures(capsys, server.url, "--duration", "0.3", "--warmup", "0")
    # One was sent before, to see that the model takes it.
    assert found["requests"] + found["errors"]["error 500"]["count"] == len(watch.shapes) - 1


def test_a_fixed_rate_sends_each_request_of_its_schedule(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    with BackgroundServer(watch.model()) as server:
        found = figures(capsys, server.url, "--rate", "200", "--duration", "0.3", "--warmup", "0.1")
    sent = len(watch.shapes) - 1  # one was sent before, to see that the model takes it
    assert 79 <= sent + found["unsent"] <= 81
    assert found["loop"] == "open"
    assert found["connections"] == 64
    assert set(found["latency"]) == {"scheduled"}


def test_what_a_server_does_not_keep_up_with_is_told(capsys: pytest.CaptureFixture[str], echo: str) -> None:
    assert main(["bench", echo, *SHORT, "--rate", "500000", "--concurrency", "1"]) == 0
    assert "were due but never sent, for all 1 connections waited" in capsys.readouterr().out


def test_inputs_are_what_the_model_declares(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    with BackgroundServer(watch.model()) as server:
        found = figures(capsys, server.url, *SHORT, "--batch", "5")
    assert set(watch.shapes) == {(5, 3)}
    assert found["inputs"] == ["x float32 [5, 3]"]
    assert found["model"] == "watched"


def test_inputs_from_files(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    np.save("x.npy", np.ones((2, 3), np.float32))
    watch = Watch()
    with BackgroundServer(watch.model()) as server:
        for text in ("x=x.npy", "x.npy"):
            figures(capsys, server.url, *SHORT, "--input", text)
    assert set(watch.shapes) == {(2, 3)}


def test_two_processes_over_a_unix_socket(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with BackgroundServer(EchoModel(), listen=f"unix:{tmp_path}/socket") as server:
        found = figures(capsys, server.url, *SHORT, "--processes", "2", "--concurrency", "3", "--shape", "100000")
    assert found["processes"] == 2
    assert found["requests"] > 0
    assert found["errors"] == {}


def test_tls(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    cert, key = authority.issue("server")
    with BackgroundServer(EchoModel(), tls_cert=cert, tls_key=key) as server:
        assert "certificate" in failure(capsys, server.url)
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.root))
        found = figures(capsys, server.url, *SHORT, "--shape", "500000", "--concurrency", "2")
    assert found["requests"] > 0
    assert found["errors"] == {}


def test_the_servers_errors_are_counted_by_kind(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch(fails=lambda number: number % 3 == 2)
    with BackgroundServer(watch.model()) as server:
        found = figures(capsys, server.url, *SHORT)
    assert found["requests"] > 0
    assert set(found["errors"]) == {"error 500"}
    assert found["errors"]["error 500"]["count"] > 0
    assert "out of luck" in found["errors"]["error 500"]["first"]


def test_nothing_but_errors_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    with BackgroundServer(Watch(fails=lambda number: True).model()) as server:
        assert main(["bench", server.url, *SHORT]) == 1
    out = capsys.readouterr().out
    assert "x error 500, the first: " in out
    assert "out of luck" in out


def test_a_server_that_goes_away(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    server = BackgroundServer(watch.model())

    def leave() -> None:
        assert watch.busy.wait(PATIENCE)
        server.stop()

    thread = threading.Thread(target=leave)
    thread.start()
    found = figures(capsys, server.url, "--duration", "1.5", "--warmup", "0")
    thread.join()
    assert found["requests"] > 0
    assert "cannot connect" in found["errors"]


def test_answers_that_do_not_come(capsys: pytest.CaptureFixture[str]) -> None:
    with Gate() as gate:
        calls: list[int] = []

        def model(inputs: dict[str, Any]) -> dict[str, Any]:
            calls.append(1)
            return inputs if len(calls) == 1 else gate.model(inputs)

        with BackgroundServer(model, drain_timeout=0.1) as server:
            found = figures(capsys, server.url, *SHORT, "--timeout", "0.1", "--concurrency", "2", code=1)
            gate.open()
    assert found["requests"] == 0
    assert found["latency"] == {"measured": None, "corrected": None}
    assert set(found["errors"]) == {"timeout"}


def test_json_and_picture_are_saved(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, echo: str
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    assert main(["bench", echo, *SHORT, "--json", "b.json", "--plot", "b.png"]) == 0
    assert "requests/s" in capsys.readouterr().out
    assert json.loads(Path("b.json").read_text())["requests"] > 0
    assert Path("b.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    assert main(["bench", echo, *SHORT, "--rate", "50", "--plot", "b.svg"]) == 0
    assert "<svg" in Path("b.svg").read_text()


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["http://127.0.0.1:1"], "cannot connect"),
        (["ftp://127.0.0.1"], "ftp://127.0.0.1"),
        ([], "URL"),
        (["http://h", "--rate", "0"], "--rate"),
        (["http://h", "--duration", "0"], "--duration"),
        (["http://h", "--concurrency", "0"], "--concurrency"),
        (["http://h", "--concurrency", "2", "--processes", "3"], "only 2 connections"),
        (["http://h", "--shape", "x=1,two"], "--shape: 'x=1,two'"),
        (["http://h", "--shape", "x=1,-1"], "--shape: 'x=1,-1'"),
        (["http://h", "--shape", "1", "--shape", "2"], "given twice"),
        (["http://h", "--input", "no.npy"], "no such file: no.npy"),
        (["http://h", "--input", "no.npy", "--shape", "1"], "--shape is for random inputs"),
        (["http://h", "--json", "no/b.json"], "no such folder: no"),
        (["http://h", "--plot", "no/b.png"], "no such folder: no"),
        (["http://h", "--plot", "b.txt"], ".png, .svg or .pdf"),
    ],
)
def test_every_mistake_is_one_line(capsys: pytest.CaptureFixture[str], args: list[str], words: str) -> None:
    assert words.lower() in failure(capsys, *args).lower()


def test_what_the_model_does_not_take_is_told_before_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    watch = Watch()
    with BackgroundServer(watch.model()) as server:
        assert "input 'x': shape [2, 2]" in failure(capsys, server.url, "--shape", "2,2")
        assert "no input 'z'" in failure(capsys, server.url, "--shape", "z=1,3")
    assert watch.shapes == []


def test_without_matplotlib_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    assert "pip install 'tensorwire[plot]'" in failure(capsys, "http://h", "--plot", "b.png")


def test_a_generator_that_does_not_start(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, echo: str
) -> None:
    monkeypatch.setattr(sys, "executable", "/bin/false")
    assert "load generator has ended" in failure(capsys, echo)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(85.24e-6, "85.2 us"), (999.4e-6, "999 us"), (0.00124, "1.24 ms"), (0.9994, "999 ms"), (12.0, "12.0 s")],
)
def test_times(seconds: float, text: str) -> None:
    assert time_text(seconds) == text
