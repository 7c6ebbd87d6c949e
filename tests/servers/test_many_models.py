"""Many models and versions behind one port: addressed by URL and by field, changed while they are used."""

from __future__ import annotations

import shutil
import signal
import threading
from collections.abc import Iterator
from functools import partial
from operator import ge
from pathlib import Path
from typing import Any

import orjson
import pytest
from processes import Start, first_line
from rawhttp import Raw, head
from version_folders import X, write
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy


@pytest.fixture
def models(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    for number in (1, 2):
        write(tmp_path / "a", number, number)
    write(tmp_path / "b", 7, 70)
    return tmp_path


@pytest.fixture
def server(models: Path) -> Iterator[BackgroundServer]:
    both = ModelConfig(
        name="a", path=str(models / "a"), settle=0, policy=VersionPolicy(latest=2), labels={"stable": 1, "next": 3}
    )
    other = ModelConfig(name="b", path=str(models / "b"), settle=0)
    with BackgroundServer(config=RepositoryConfig(models=(both, other)), poll=0.05) as server:
        wait_until(lambda: available(server, "a") == [2, 1] and available(server, "b") == [7])
        assert server.app.service.ready
        yield server


def available(server: BackgroundServer, name: str) -> list[int]:
    return [version.number for version in server.app.service.status(name)[0].versions if version.available]


def infer(url: str, **fields: Any) -> float:
    with tw.Client(url) as client:
        return float(client.send(tw.Request({"x": X}, **fields)).outputs["y"][1])


def test_models_versions_and_labels_by_field(server: BackgroundServer) -> None:
    assert infer(server.url) == 2
    assert infer(server.url, version=1) == 1
    assert infer(server.url, label="stable") == 1
    assert infer(server.url, model="b") == 70
    for fields, told in (
        ({"model": "c"}, "unknown model 'c': this server has 'a', 'b'"),
        ({"version": 9}, "model 'a' has no version 9: it has 1, 2"),
        ({"label": "next"}, "model 'a' has no version 3 (label 'next'): it has 1, 2"),
        ({"label": "x"}, "model 'a' has no version with the label 'x': it has 'stable', 'next'"),
    ):
        with pytest.raises(tw.RemoteError) as caught:
            infer(server.url, **fields)
        assert (caught.value.code, caught.value.message) == (404, told)


@pytest.mark.parametrize("chunked", [False, True])
def test_models_versions_and_labels_by_url(server: BackgroundServer, chunked: bool) -> None:
    def ask(path: str, **fields: Any) -> tw.Response | tw.Status:
        body = bytes(tw.encode(tw.Request({"x": X}, **fields)))
        with Raw(server.url) as raw:
            kind = "Content-Type: application/octet-stream"
            if chunked:
                raw.send(
                    head("POST", path, kind, "Transfer-Encoding: chunked")
                    + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
                )
            else:
                raw.send(head("POST", path, kind, f"Content-Length: {len(body)}") + body)
            response = tw.decode(raw.answer().body, tw.Response)
        return response.errors[0] if response.errors else response

    for path, expected in (
        ("/v1/models/a", 2),
        ("/v1/models/a:predict", 2),
        ("/v1/models/a/versions/1:predict", 1),
        ("/v1/models/a/labels/stable", 1),
        ("/v1/models/b/versions/7?x=1", 70),
    ):
        found = ask(path)
        assert isinstance(found, tw.Response), found
        assert found.outputs.arrays[0][1] == expected, path
    for path, fields, code, told in (
        ("/v1/models/c", {}, 404, "unknown model 'c'"),
        ("/v1/models/a/versions/9", {}, 404, "model 'a' has no version 9: it has 1, 2"),
        ("/v1/models/a/labels/x", {}, 404, "no version with the label 'x'"),
        ("/v1/models/a", {"model": "b"}, 400, "the URL is that of model 'a', the request names 'b'"),
        ("/v1/models/a/versions/1", {"version": 2}, 400, "name different versions"),
        ("/v1/models/a/labels/stable", {"version": 2}, 400, "name different versions"),
    ):
        found = ask(path, **fields)
        assert isinstance(found, tw.Status), path
        assert found.code == code and told in found.message


def test_pages(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        listed = orjson.loads(raw.get("/v1/models").body)["models"]
        assert [(m["name"], m["default"], m["ready"]) for m in listed] == [("a", True, True), ("b", False, True)]
        assert [(v["version"], v["state"]) for v in listed[0]["versions"]] == [("2", "AVAILABLE"), ("1", "AVAILABLE")]
        assert listed[0]["labels"] == {"stable": 1, "next": 3}
        status = orjson.loads(raw.get("/v1/models/a/versions/1").body)
        assert status == {
            "model_version_status": [
                {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
            ]
        }
        assert orjson.loads(raw.get("/v1/models/a/labels/stable/metadata").body)["version"] == "1"
        for path in ("/v1/models/c", "/v1/models/a/versions/3", "/v1/models/a/labels/x", "/v1/models/a/labels/next"):
            assert raw.get(path).status == 404, path
        body = bytes(tw.encode(tw.Request({"x": X})))
        raw.send(head("POST", "/v1/models/a", f"Content-Length: {len(body)}") + body)
        answer = raw.answer()
        assert answer.status == 415 and b"application/octet-stream" in answer.body


def test_versions_are_swapped_under_load_and_no_request_is_lost(models: Path) -> None:
    base = models / "a"
    shutil.rmtree(base / "2")
    config = RepositoryConfig(models=(ModelConfig(name="a", path=str(base), settle=0),))
    allowed = {1.0}
    wrong: list[object] = []
    answered = [0] * 8
    stop = threading.Event()

    def load(url: str, place: int) -> None:
        with tw.Client(url) as client:
            while not stop.is_set():
                try:
                    value = float(client.infer({"x": X})["y"][1])
                except Exception as error:
                    wrong.append(error)
                    return
                if value not in allowed:
                    wrong.append(value)
                answered[place] += 1

    def swapped(server: BackgroundServer, number: int) -> bool:
        versions = server.app.service.status("a")[0].versions
        return [v.number for v in versions if v.state != "END"] == [number] and available(server, "a") == [number]

    with BackgroundServer(config=config, poll=0.02) as server:
        wait_until(lambda: server.app.service.ready)
        threads = [threading.Thread(target=load, args=(server.url, place)) for place in range(len(answered))]
        for thread in threads:
            thread.start()
        for number in range(2, 12):
            allowed.add(float(number))
            write(base, number, number)
            wait_until(partial(swapped, server, number))
            shutil.rmtree(base / str(number - 1))
            # Each client has had an answer that it asked for after the swap.
            seen = [count + 2 for count in answered]
            wait_until(lambda seen=seen: wrong or all(map(ge, answered, seen)))
            allowed.discard(float(number - 1))
        stop.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert min(answered) >= 20


def listing(url: str) -> Any:
    with Raw(url) as raw:
        return orjson.loads(raw.get("/v1/models").body)


def test_serve_a_base_path_and_a_configuration(
    models: Path, start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "models.toml"
    config.write_text(f'[models.b]\npath = "{models / "b"}"\nsettle = 0\n')
    process = start(
        "-m", "tensorwire", "serve", "--config", str(config), "--listen", f"unix:{tmp_path}/s", "--poll", "0"
    )
    assert "listening on" in first_line(process)
    url = f"unix://{tmp_path}/s"
    wait_until(lambda: ready(url))
    assert infer(url) == 70
    config.write_text(f'[models.a]\npath = "{models / "a"}"\nversions = [1]\nsettle = 0\n')
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: ready(url, "a"))
    assert infer(url) == 1
    config.write_text("[models.a]\npth = 1")
    process.send_signal(signal.SIGHUP)
    assert process.stderr is not None
    for line in process.stderr:
        if "the configuration stays as it is" in line:
            assert "line 2: model 'a': unknown key 'pth'" in line
            break
    assert infer(url) == 1
    for command in (["models", "list"], ["top", "--count", "1"]):
        assert main([*command, url]) == 0
        assert "the configuration stays as it is" in capsys.readouterr().out
    config.write_text(f'[models.a]\npath = "{models / "a"}"\nversions = [1]\nsettle = 0\n')
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: not listing(url)["problem"])


@pytest.mark.parametrize("workers", [1, 2])
def test_hangup_looks_at_base_paths(start: Start, tmp_path: Path, workers: int) -> None:
    write(tmp_path / "m", 1, 2)
    process = start(
        *("-m", "tensorwire", "serve", "m", "--listen", "unix:s", "--poll", "0", "--workers", str(workers)),
        "--no-access-log",  # whose lines would fill the pipe
    )
    assert "listening on" in first_line(process)
    url = f"unix://{tmp_path}/s"

    def answer() -> float:
        try:
            return infer(url)
        except tw.RemoteError:  # of a worker that has not loaded it yet
            return 0

    def answers() -> set[float]:
        return {answer() for _ in range(20)}

    wait_until(lambda: answers() == {2})
    write(tmp_path / "m", 2, 3)
    assert answers() == {2}
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: answers() == {3})
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert 1 <= err.count("looking at the files of 1 models") <= workers  # one that came later has looked by itself
    assert "starting another" not in err


@pytest.mark.parametrize("workers", [1, 2])
def test_hangup_with_nothing_to_read(start: Start, tmp_path: Path, workers: int) -> None:
    process = start("-m", "tensorwire", "serve", "--echo", "--listen", "unix:s", "--workers", str(workers))
    assert "listening on" in first_line(process)
    process.send_signal(signal.SIGHUP)  # the second worker may be starting, and has nothing to do when it is not yet
    assert process.stderr is not None
    assert "nothing to read again" in process.stderr.readline()
    with Raw(f"unix://{tmp_path}/s") as raw:
        assert raw.get("/readyz").status == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert not (tmp_path / "s").exists()


def ready(url: str, model: str = "b") -> bool:
    with Raw(url) as raw:
        listed = orjson.loads(raw.get("/v1/models").body)["models"]
        return raw.get("/readyz").status == 200 and [m["name"] for m in listed] == [model]
