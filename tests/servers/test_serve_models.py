"""Models from the command line of `tensorwire serve`: TensorFlow Serving's flags, and when they are looked at."""

from __future__ import annotations

import http.client
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from processes import Start, first_line
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers import app
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.repository import repository
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig

pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")


def serve(start: Start, *args: str) -> tuple[subprocess.Popen[str], str]:
    """A server of its own process, and its URL."""
    process = start("-m", "tensorwire", "serve", "--listen", "127.0.0.1:0", *args)
    return process, first_line(process).split()[2]


def get(url: str, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=20)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def readyz(url: str) -> int:
    return get(url, "/readyz")[0]


def infer(url: str, **fields: Any) -> float:
    with tw.Client(url) as client:
        return float(client.send(tw.Request({"x": X}, **fields)).outputs["y"][1])


def end(process: subprocess.Popen[str]) -> str:
    """Its log."""
    process.send_signal(signal.SIGTERM)
    log = process.communicate(timeout=60)[1]
    assert process.returncode == 0, log
    return log


def test_tensorflow_servings_flags_for_one_model(start: Start, tmp_path: Path) -> None:
    """A base path that is not there yet is waited for, as there."""
    base = tmp_path / "half"
    process, url = serve(
        start,
        *("--model_name", "third", "--model_base_path", str(base), "--file_system_poll_wait_seconds", "1"),
    )
    assert readyz(url) == 503
    wait_until(lambda: b"half: No such file" in get(url, "/v1/models")[1])  # it has looked once
    write(base, 1, 3)
    wait_until(lambda: readyz(url) == 200)
    assert infer(url, model="third") == 3
    log = end(process)
    assert f"model 'third': {base}: No such file or directory" in log


def test_tensorflow_servings_flags_for_a_configuration(start: Start, tmp_path: Path) -> None:
    """A file of models precedes the flags of one, and a negative time is no clock at all, as there."""
    write(tmp_path / "a", 1, 5)
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "a" base_path: "{tmp_path / "a"}" model_platform: "onnx" }} }}'
    )
    process, url = serve(
        start,
        *("--model_config_file", str(config), "--model_name", "b", "--model_base_path", "/no/such/folder"),
        "--file_system_poll_wait_seconds=-1",
    )
    wait_until(lambda: readyz(url) == 200)
    assert infer(url, model="a") == 5
    with pytest.raises(tw.RemoteError, match="unknown model 'b': this server has 'a'"):
        infer(url, model="b")
    assert "--model_name and --model_base_path are ignored: --config says which models there are" in end(process)


def test_reload_off_looks_when_it_is_told_to(start: Start, tmp_path: Path) -> None:
    write(tmp_path / "a", 1, 1)
    process, url = serve(start, str(tmp_path / "a"), "--reload", "off")
    wait_until(lambda: readyz(url) == 200)
    write(tmp_path / "a", 2, 2)
    assert infer(url) == 1
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: infer(url) == 2)
    end(process)


@pytest.mark.parametrize(
    ("args", "poll", "watch"),
    [
        ((), 1.0, True),
        (("--reload", "watch", "--poll", "7"), 7.0, True),
        (("--reload", "poll", "--poll", "7"), 7.0, False),
        (("--reload", "off", "--poll", "7"), 0.0, False),
        (("--file_system_poll_wait_seconds", "0"), 0.0, True),
        (("--file_system_poll_wait_seconds=-1",), 0.0, True),
    ],
)
def test_when_base_paths_are_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, args: tuple[str, ...], poll: float, watch: bool
) -> None:
    given: dict[str, Any] = {}

    def serve_model(model: Any, **options: Any) -> bool:
        given.update(options, model=model)
        return True

    monkeypatch.setattr(app, "serve_model", serve_model)
    assert main(["serve", "--model_base_path", str(tmp_path / "absent"), *args]) == 0
    assert (given["poll"], given["watch"]) == (poll, watch)
    assert given["config"] == RepositoryConfig(models=(ModelConfig(name="absent", path=str(tmp_path / "absent")),))
    assert given["model"] is None


@pytest.mark.parametrize(
    ("path", "name"),
    [("s3://bucket/models/digits", "digits"), ("{tmp}", None), ("{digits}", ""), ("my_module:predict", "")],
)
def test_what_a_model_base_path_is(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, name: str | None
) -> None:
    """URLs and folders are waited for; a file and a Python model are served as PATH is."""
    given: dict[str, Any] = {}
    monkeypatch.setattr(app, "serve_model", lambda model, **options: bool(given.update(options, model=model) or True))
    path = path.format(tmp=tmp_path, digits=DIGITS)
    assert main(["serve", "--model_base_path", path]) == 0
    if name == "":
        assert (str(given["model"]), given["config"]) == (path, None)
        return
    (model,) = given["config"].models
    assert (model.name, model.path) == (name or tmp_path.name, path)


@pytest.mark.parametrize("watch", [True, False])
def test_watching_and_polling_each_find_a_version(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, watch: bool) -> None:
    """With watch the clock is of no help, without it nothing is watched."""
    if watch:
        pytest.importorskip("watchfiles")
    else:
        monkeypatch.setattr(repository, "Watcher", None)
    write(tmp_path / "a", 1, 1)
    config = RepositoryConfig(models=(ModelConfig(name="a", path=str(tmp_path / "a"), settle=0),))
    with BackgroundServer(config=config, poll=3600.0 if watch else 0.05, watch=watch) as server:
        wait_until(lambda: server.app.service.ready)
        write(tmp_path / "a", 2, 2)
        wait_until(lambda: infer(server.url) == 2)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("{digits}", "--admin-token-file", "{token}"), "--admin-token-file is for models of --config or of a folder"),
        (("--admin-token-file", "{token}"), "--admin-token-file is for models of --config"),
        (("{digits}", "--model-memory", "1GiB"), "--model-memory is for models of --config or of a folder"),
        (("{digits}", "--model-memory", "1GiB", "--on-demand"), "--model-memory is for models of --config"),
        (("--echo", "--model-memory", "1GiB"), "--model-memory is for models of --config"),
        (("--echo", "--model_base_path", "/x"), "--echo is a model of its own: it takes no --model_base_path"),
        (("--model_base_path", "/x", "--model_name", "a b"), "model name 'a b': 1 to 200 characters"),
        (("--model_base_path", "/x", "--engine", "onxx"), "unknown engine 'onxx' (did you mean 'onnx'?)"),
        (("{digits}", "--model_base_path", "/x"), "--model_base_path is another way to give PATH: give one"),
        (("{digits}", "--config", "x.toml"), "--config says which models there are"),
        (("--poll", "nan"), "--poll is a number of seconds, not nan"),
        (("--reload", "sometimes"), "'sometimes' is not one of 'watch', 'poll', 'off'"),
    ],
)
def test_mistakes_are_told_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], told: str
) -> None:
    (tmp_path / "token").write_text("word")
    given = [arg.format(digits=DIGITS, token=tmp_path / "token") for arg in args]
    assert main(["serve", *given]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.err.count("\n") == 1
