"""Models that are not there yet, or will never be: every answer about them says why."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import FakeModel, is_model, write_version
from rawhttp import Answer, Raw, post
from waiting import PATIENCE, on_loop, wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.model import Model
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy

BODY = bytes(tw.encode(tw.Request({"x": np.zeros(2, np.float32)})))


class Loads:
    """Loads fake models; versions in a folder 'slow' only when the gate is open."""

    def __init__(self) -> None:
        self.gate = threading.Event()

    def __call__(self, path: Path, config: ModelConfig) -> Model:
        assert config.name != "slow" or self.gate.wait(PATIENCE), "waited in vain"
        return FakeModel(path)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    loads = Loads()
    monkeypatch.setattr("tensorwire.servers.app.load_version", loads)
    monkeypatch.setattr("tensorwire.servers.service.is_model", is_model)
    yield loads
    loads.gate.set()


@pytest.fixture
def server(loads: Loads, tmp_path: Path) -> Iterator[BackgroundServer]:
    """Models in four states: good serves, slow is being loaded, broken cannot be, gone has no folder."""
    write_version(tmp_path / "good", 1)
    write_version(tmp_path / "good", 2, "no number")
    write_version(tmp_path / "slow", 4)
    write_version(tmp_path / "broken", 7, "no number")

    def model(name: str, **fields: Any) -> ModelConfig:
        policy = VersionPolicy(latest=2)
        return ModelConfig(name=name, path=str(tmp_path / name), settle=0, attempts=1, policy=policy, **fields)

    models = (model("good", labels={"stable": 1, "next": 2, "far": 9}), model("slow"), model("broken"), model("gone"))
    with BackgroundServer(config=RepositoryConfig(models=models), poll=0.05) as server:
        wait_until(lambda: states(server) == ["END", "AVAILABLE", "LOADING", "END"] and problem(server))
        yield server
        loads.gate.set()


def states(server: BackgroundServer) -> list[str]:
    return [version.state for status in server.app.service.status() for version in status.versions]


def problem(server: BackgroundServer) -> str:
    return server.app.service.status("gone")[0].problem


def get(server: BackgroundServer, path: str) -> Answer:
    with Raw(server.url) as raw:
        return raw.get(path)


def refusal(server: BackgroundServer, path: str) -> str:
    with Raw(server.url) as raw:
        answer = raw.post(BODY, path)
    assert answer.status == 503
    assert answer.fields["retry-after"] == "1"
    (error,) = tw.decode(answer.body, tw.Response).errors
    assert error.code == 503
    return error.message


def reasons(folder: Path) -> dict[str, str]:
    return {
        "slow": "version 4 is being loaded",
        "broken": f"version 7 cannot be served: {folder}/broken/7/model.fake: 'no number' is not a number",
        "gone": f"{folder}/gone: No such file or directory",
    }


def test_the_server_names_the_models_that_keep_it_from_being_ready(
    server: BackgroundServer, loads: Loads, tmp_path: Path
) -> None:
    for path in ("/readyz", "/control/is_ready"):
        answer = get(server, path)
        assert answer.status == 503
        expected = [f"not ready: {name}: {why}" for name, why in reasons(tmp_path).items()]
        assert answer.body.decode().splitlines() == expected
    loads.gate.set()
    write_version(tmp_path / "gone", 1)
    write_version(tmp_path / "broken", 7)
    wait_until(lambda: get(server, "/readyz").status == 200)
    assert get(server, "/readyz").body == b"ok\n"


def test_each_model_says_whether_it_is_ready(server: BackgroundServer, loads: Loads, tmp_path: Path) -> None:
    for name, why in reasons(tmp_path).items():
        answer = get(server, f"/v1/models/{name}/ready")
        assert (answer.status, answer.body.decode()) == (503, f"not ready: {why}\n")
    for path in ("good", "good/versions/1", "good/labels/stable"):
        answer = get(server, f"/v1/models/{path}/ready")
        assert (answer.status, answer.body) == (200, b"ok\n"), path
    for path in ("good/versions/2", "good/labels/next"):
        answer = get(server, f"/v1/models/{path}/ready")
        assert answer.status == 503
        assert answer.body.startswith(b"not ready: version 2 cannot be served: "), path
    assert get(server, "/v1/models/slow/versions/4/ready").status == 503
    loads.gate.set()
    wait_until(lambda: get(server, "/v1/models/slow/ready").status == 200)
    assert get(server, "/v1/models/slow/versions/4/ready").status == 200


def test_who_asks_for_such_a_model_is_told_why(server: BackgroundServer, tmp_path: Path) -> None:
    for name, why in reasons(tmp_path).items():
        assert refusal(server, f"/v1/models/{name}") == f"no version of model {name!r} is available: {why}"
        answer = get(server, f"/v1/models/{name}/metadata")
        assert answer.status == 503
        assert json.loads(answer.body)["error"] == f"no version of model {name!r} is available: {why}"
        with tw.Client(server.url) as client, pytest.raises(tw.RemoteError, match="is available: ") as caught:
            client.infer({"x": np.zeros(2, np.float32)}, model=name)
        assert caught.value.code == 503
        told = json.loads(get(server, f"/v1/models/{name}").body)
        assert told["error"] == why
    with Raw(server.url) as raw:
        (error,) = tw.decode(raw.post(BODY, "/v1/models/slow/versions/4").body, tw.Response).errors
    assert error.message == "model 'slow' has no version 4: none is available; version 4 is being loaded"
    with Raw(server.url) as raw:
        (error,) = tw.decode(raw.post(BODY, "/v1/models/good/labels/next").body, tw.Response).errors
    failed = f"version 2 cannot be served: {tmp_path}/good/2/model.fake: 'no number' is not a number"
    assert error.message == f"model 'good' has no version 2 (label 'next'): it has 1; {failed}"
    with Raw(server.url) as raw:
        (error,) = tw.decode(raw.post(BODY, "/v1/models/good/versions/3").body, tw.Response).errors
    assert error.message == "model 'good' has no version 3: it has 1"
    assert "error" not in json.loads(get(server, "/v1/models/good").body)
    assert json.loads(get(server, "/v1/models/gone").body)["model_version_status"] == []


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("good/versions/3", "model 'good' has no version 3: it has 1, 2"),
        ("good/labels/x", "model 'good' has no version with the label 'x': it has 'stable', 'next', 'far'"),
        ("good/labels/far", "model 'good' has no version 9 (label 'far'): it has 1, 2"),
        ("other", "unknown model 'other': this server has 'good', 'slow', 'broken', 'gone'"),
    ],
)
@pytest.mark.parametrize("page", ["", "/ready"])
def test_what_is_not_there(server: BackgroundServer, path: str, page: str, told: str) -> None:
    answer = get(server, f"/v1/models/{path}{page}")
    assert (answer.status, json.loads(answer.body)["error"]) == (404, told)


def test_a_base_path_in_which_nothing_is_complete(loads: Loads, tmp_path: Path) -> None:
    (tmp_path / "m").mkdir()
    model = ModelConfig(name="m", path=str(tmp_path / "m"), ready_file="DONE")
    with BackgroundServer(config=RepositoryConfig(models=(model,)), poll=0.05) as server:
        empty = f"no version of model 'm' is available: {tmp_path}/m: no version folder in it"
        before = "no version of model 'm' is available: no version of it is complete yet"  # the first look
        while (told := refusal(server, "/")) != empty:
            assert told == before
        write_version(tmp_path / "m", 1)
        waits = "no version of model 'm' is available: version 1 waits to be loaded: there is no DONE in it"
        wait_until(lambda: refusal(server, "/") == waits)
        (tmp_path / "m" / "1" / "DONE").touch()
        wait_until(lambda: get(server, "/readyz").status == 200)


def test_a_server_that_stops_is_not_ready(loads: Loads, tmp_path: Path) -> None:
    write_version(tmp_path / "m", 1)
    model = ModelConfig(name="m", path=str(tmp_path / "m"), settle=0)
    with BackgroundServer(config=RepositoryConfig(models=(model,)), poll=0.05) as server, Raw(server.url) as raw:
        wait_until(lambda: raw.get("/readyz").status == 200)
        on_loop(server.loop, lambda: setattr(server.app, "_stopping", True))
        for path in ("/readyz", "/v1/models/m/ready"):
            answer = raw.get(path)
            assert (answer.status, answer.body) == (503, b"not ready: shutting down\n")
        on_loop(server.loop, lambda: setattr(server.app, "_stopping", False))


def test_models_that_are_asleep_are_ready(loads: Loads, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two models of which one fits into the memory: the other is loaded for the first request."""
    monkeypatch.setattr(FakeModel, "memory", 5000)
    for name in ("a", "b"):
        write_version(tmp_path / name, 1)
    models = tuple([ModelConfig(name=name, path=str(tmp_path / name), settle=0) for name in ("a", "b")])
    options = {"config": RepositoryConfig(models=models), "poll": 0.05, "model_memory": 8000, "on_demand": True}
    with BackgroundServer(**options) as server:
        wait_until(lambda: get(server, "/readyz").status == 200)
        asleep = [status.name for status in server.app.service.status() if status.versions[0].asleep]
        assert len(asleep) == 1
        for path in ("a", "b", "a/versions/1", "b/versions/1"):
            assert get(server, f"/v1/models/{path}/ready").status == 200, path
        with Raw(server.url) as raw:
            raw.send(post(BODY, f"/v1/models/{asleep[0]}"))
            assert raw.answer().status == 200
