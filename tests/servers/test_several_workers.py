"""Several workers tell of themselves as one server, and what is changed reaches all of them."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from processes import Start, first_line
from rawhttp import Raw, head
from version_folders import write
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.cli import main

BODY = bytes(tw.encode(tw.Request({"x": np.arange(3, dtype=np.float32)})))
COUNT = 3

pytest.importorskip("onnxruntime")


@pytest.fixture
def models(tmp_path: Path) -> Path:
    write(tmp_path / "a", 1, 2.0)
    write(tmp_path / "b", 1, 3.0)
    configure(tmp_path, "a")
    return tmp_path


def configure(folder: Path, *names: str) -> None:
    text = "".join(f'[models.{name}]\npath = "{folder / name}"\nsettle = 0\n' for name in names)
    (folder / "models.toml").write_text(text)


@pytest.fixture
def server(start: Start, models: Path) -> subprocess.Popen[str]:
    code = "import sys; from tensorwire.servers.cli import main; sys.exit(main(sys.argv[1:]))"
    options = ("--config", "models.toml", "--workers", str(COUNT), "--poll", "0.1", "--listen", "127.0.0.1:0")
    return start("-c", code, "serve", *options)


@pytest.fixture
def url(server: subprocess.Popen[str]) -> str:
    (found,) = re.findall(r"http://[\d.:]+", first_line(server))
    wait_until(lambda: get(found, "/v1/stats")["workers"]["told"] == COUNT)
    # A worker listens once its models are loaded; until then the others answer for it.
    wait_until(lambda: answers(found, "a") == {2.0} and all(one["requests"]["received"] for one in workers(found)))
    return found


def workers(url: str) -> list[Any]:
    """What each worker has told of itself."""
    each: list[Any] = get(url, "/v1/stats")["workers"]["each"]
    return each


def get(url: str, path: str) -> Any:
    with Raw(url) as raw:
        return json.loads(raw.get(path).body)


def answers(url: str, model: str) -> set[float]:
    """What a model makes of 1, or the status of an error; asked so often that no worker is left out but by wonder."""
    found: set[float] = set()
    for _ in range(20 * COUNT):
        with Raw(url) as raw:
            answer = raw.post(BODY, f"/v1/models/{model}", "Content-Type: application/octet-stream")
        found.add(float(tw.decode(answer.body, tw.Response).outputs["y"][1]) if answer.status == 200 else answer.status)
    return found


def counted(url: str) -> int:
    """The requests that GET /v1/models has of the one version."""
    (model,) = get(url, "/v1/models")["models"]
    (version,) = model["versions"]
    return int(version["requests"])


def test_stats_are_those_of_all(server: subprocess.Popen[str], url: str) -> None:
    before, listed = get(url, "/v1/stats"), counted(url)
    assert before["pid"] == server.pid
    answers(url, "a")
    after = get(url, "/v1/stats")
    assert after["requests"]["received"] - before["requests"]["received"] == 20 * COUNT
    each = after["workers"]["each"]
    assert [one["worker"] for one in each] == [1, 2, 3] and len({one["pid"] for one in each}) == COUNT
    assert sum(one["requests"]["received"] for one in each) == after["requests"]["received"]
    assert all(one["requests"]["received"] for one in each)
    assert counted(url) - listed == 20 * COUNT


def test_a_frozen_worker_is_left_out_and_one_that_is_replaced_comes_back(
    server: subprocess.Popen[str], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    pids = [one["pid"] for one in get(url, "/v1/stats")["workers"]["each"]]
    with Raw(url) as raw:
        raw.get("/v1/stats")  # a connection of this worker, which is found by its open connections
        mine = max(json.loads(raw.get("/v1/stats").body)["workers"]["each"], key=lambda one: one["connections"]["open"])
        frozen = next(pid for pid in pids if pid != mine["pid"])
        os.kill(frozen, signal.SIGSTOP)
        try:
            told = json.loads(raw.get("/v1/stats").body)["workers"]
            assert (told["configured"], told["told"]) == (COUNT, COUNT - 1)
            assert frozen not in [one["pid"] for one in told["each"]]
        finally:
            os.kill(frozen, signal.SIGCONT)
        os.kill(frozen, signal.SIGKILL)
        wait_until(lambda: json.loads(raw.get("/v1/stats").body)["workers"]["told"] == COUNT)
    assert main(["top", url, "--count", "1"]) == 0
    assert f"{COUNT} workers" in " ".join(capsys.readouterr().out.split())


def test_sighup_and_new_versions_reach_every_worker(server: subprocess.Popen[str], url: str, models: Path) -> None:
    write(models / "a", 2, 5.0)
    wait_until(lambda: answers(url, "a") == {5.0})
    assert answers(url, "b") == {404}
    with Raw(url) as raw:
        for method, path in (("POST", "/v1/models/b:load"), ("PUT", "/v1/models/a/labels"), ("PUT", "/v1/config")):
            raw.send(head(method, path, "Content-Length: 2") + b"{}")
            answer = raw.answer()
            assert answer.status == 404
            assert "one of 3 workers: edit the file of --config and send SIGHUP" in json.loads(answer.body)["error"]
    configure(models, "a", "b")
    server.send_signal(signal.SIGHUP)
    wait_until(lambda: answers(url, "b") == {3.0})
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
