"""Administration over HTTP and from the shell: models come, go and change names while others serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Answer, Raw, head
from version_folders import X, write
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.repository.config import ModelConfig, RepositoryConfig, VersionPolicy

TOKEN = "s3cret"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    for number in (1, 2):
        write(tmp_path / "a", number, number)
    write(tmp_path / "b", 1, 10)
    return tmp_path


@pytest.fixture
def server(models: Path) -> Iterator[BackgroundServer]:
    model = ModelConfig(name="a", path=str(models / "a"), settle=0, policy=VersionPolicy(latest=0))
    with BackgroundServer(config=RepositoryConfig(models=(model,)), poll=0.05, admin_token=TOKEN) as server:
        wait_until(lambda: len([v for v in server.app.service.status("a")[0].versions if v.available]) == 2)
        yield server


def ask(url: str, method: str, path: str, body: Any = None, *headers: str, token: str = TOKEN) -> Answer:
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    fields = [*headers, f"Content-Length: {len(data)}"] + ([f"Authorization: Bearer {token}"] if token else [])
    with Raw(url) as raw:
        raw.send(head(method, path, *fields) + data)
        return raw.answer()


def infer(url: str, **fields: Any) -> float:
    with tw.Client(url) as client:
        return float(client.send(tw.Request({"x": X}, **fields)).outputs["y"][1])


def test_a_model_is_loaded_labelled_reloaded_and_unloaded(server: BackgroundServer, models: Path) -> None:
    url = server.url
    answer = ask(url, "POST", "/v1/models/b:load", {"path": str(models / "b"), "settle": 0})
    assert answer.status == 200, answer.body
    assert [v["state"] for v in json.loads(answer.body)["versions"]] == ["AVAILABLE"]
    assert infer(url, model="b") == 10
    assert ask(url, "PUT", "/v1/models/a/labels", {"stable": 1, "next": 2}).status == 200
    assert (infer(url, label="stable"), infer(url, label="next")) == (1, 2)
    assert ask(url, "PUT", "/v1/models/a/labels", {"stable": 2}).status == 200
    assert infer(url, label="stable") == 2
    with pytest.raises(tw.RemoteError, match="no version with the label 'next'"):
        infer(url, label="next")
    before = server.app.service.models
    assert ask(url, "POST", "/v1/models/a:reload").status == 200
    assert not set(map(id, before[:2])) & set(map(id, server.app.service.models[:2]))
    assert ask(url, "POST", "/v1/models/b:unload").status == 200
    with pytest.raises(tw.RemoteError, match="unknown model 'b': this server has 'a'"):
        infer(url, model="b")
    assert infer(url) == 2


def test_the_configuration_is_read_and_replaced_with_its_etag(server: BackgroundServer, models: Path) -> None:
    url = server.url
    shown = ask(url, "GET", "/v1/config")
    etag = shown.fields["etag"]
    assert shown.body.startswith(b"[models.a]\n")
    wanted = f'[models.b]\npath = "{models / "b"}"\nsettle = 0\n'.encode()
    stale = ask(url, "PUT", "/v1/config", wanted, 'If-Match: "0123"')
    assert stale.status == 412 and stale.fields["etag"] == etag
    assert infer(url) == 2
    replaced = ask(url, "PUT", "/v1/config", wanted, f"If-Match: {etag}")
    assert replaced.status == 200 and replaced.fields["etag"] != etag
    assert infer(url) == 10
    assert ask(url, "GET", "/v1/config").body == wanted
    assert ask(url, "POST", "/v1/models/b:unload", None, f"If-Match: {etag}").status == 412


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "told"),
    [
        ("POST", "/v1/models/c:load", {}, 400, "model 'c': path is missing"),
        ("POST", "/v1/models/c:load", {"pth": "/x"}, 400, "unknown key 'pth'"),
        ("POST", "/v1/models/c:load", {"path": "x"}, 400, "the path 'x' is relative"),
        ("POST", "/v1/models/c:load", b"{", 400, "not JSON"),
        ("POST", "/v1/models/c:load", [], 400, "a JSON object of a model's fields (path, "),
        ("POST", "/v1/models/c:load", {"path": "/x", "options": {"allow_pickle": True}}, 403, "allow_pickle can only"),
        ("POST", "/v1/models/c:load", {"path": "/x", "options": {"custom_ops": "/x.so"}}, 403, "custom_ops can only"),
        ("POST", "/v1/models/c:load", b" " * 2_000_000, 413, "over the limit"),
        ("POST", "/v1/models/c:unload", None, 404, "no model 'c' is configured: there are 'a'"),
        ("POST", "/v1/models/c:reload", None, 404, "no model 'c' is configured"),
        ("PUT", "/v1/models/a/labels", {"x": "1"}, 400, "label 'x' names a version by its number"),
        ("PUT", "/v1/models/a/labels", {"x": -1}, 400, "a version is 0 or more"),
        ("PUT", "/v1/config", b"[models.a]\npth = 1", 400, "line 2: model 'a': unknown key"),
        ("PUT", "/v1/config", b"\xff", 400, "not text in UTF-8"),
        ("PUT", "/v1/config", b'[models.a]\npath = "/a"\noptions = {allow_pickle = true}', 403, "allow_pickle"),
    ],
)
def test_mistakes_change_nothing(
    server: BackgroundServer, method: str, path: str, body: Any, status: int, told: str
) -> None:
    before = server.app.service.repository
    assert before is not None
    config = before.config
    answer = ask(server.url, method, path, body)
    assert answer.status == status, answer.body
    assert told in json.loads(answer.body)["error"]
    assert before.config is config


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1]])
def test_without_the_token_nothing_is_told_or_done(server: BackgroundServer, models: Path, token: str) -> None:
    for method, path in (
        ("GET", "/v1/config"),
        ("PUT", "/v1/config"),
        ("POST", "/v1/models/a:unload"),
        ("POST", "/v1/models/b:load"),
        ("PUT", "/v1/models/a/labels"),
    ):
        answer = ask(server.url, method, path, None, token=token)
        assert answer.status == 401, (method, path)
        assert answer.fields["www-authenticate"] == "Bearer"
        assert b"models" not in answer.body
    assert infer(server.url) == 2


def test_a_server_without_a_token_has_no_administration(models: Path) -> None:
    with BackgroundServer(str(models / "a")) as server:
        assert ask(server.url, "GET", "/v1/config").status == 404
        assert ask(server.url, "POST", "/v1/models/a:unload").status in (404, 415)


def test_a_model_that_cannot_be_loaded_is_told_and_does_not_disturb_the_others(
    server: BackgroundServer, tmp_path: Path
) -> None:
    (tmp_path / "c" / "1").mkdir(parents=True)
    (tmp_path / "c" / "1" / "model.onnx").write_bytes(b"no model")
    body = {"path": str(tmp_path / "c"), "settle": 0, "attempts": 1}
    answer = json.loads(ask(server.url, "POST", "/v1/models/c:load", body).body)
    (version,) = answer["versions"]
    assert version["state"] == "END" and "not an ONNX model" in version["error"]
    with pytest.raises(tw.RemoteError) as caught:
        infer(server.url, model="c")
    assert caught.value.code == 503
    assert infer(server.url) == 2


def test_from_the_shell(
    server: BackgroundServer, models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, token = server.url, tmp_path / "token"
    token.write_text(TOKEN + "\n")
    auth = ("--token-file", str(token))

    def run(*args: str) -> str:
        assert main(["models", *args]) == 0, capsys.readouterr().err
        return capsys.readouterr().out

    assert "AVAILABLE" in run("list", url)
    assert "AVAILABLE" in run("load", url, "b", str(models / "b"), *auth)
    assert "gold" in run("label", url, "b", "gold=1", *auth)
    assert infer(url, model="b", label="gold") == 10
    run("reload", url, "b", *auth)
    run("unload", url, "b", *auth)
    for args, told in (
        (("unload", url, "b", *auth), "no model 'b' is configured: there are 'a' (404)"),
        (("unload", url, "a"), "administration needs 'Authorization: Bearer TOKEN' (401)"),
        (("label", url, "a", "gold", *auth), "'gold' is not LABEL=VERSION"),
        (("list", "ftp://x"), "is not a server"),
        (("list", "http://127.0.0.1:1"), "cannot ask http://127.0.0.1:1"),
        (("list", url, "--token-file", "x"), "No such option"),
    ):
        assert main(["models", *args]) == 2
        assert told in capsys.readouterr().err


def test_configurations_are_checked_and_converted(
    models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "models.txt"
    config.write_text(f'model_config_list {{ config {{ name: "a" base_path: "{models / "a"}" }} }}')
    assert main(["config", "check", str(config)]) == 0
    assert "1 models: no mistakes" in capsys.readouterr().out
    assert main(["config", "convert", str(config), "--output", str(tmp_path / "models.toml")]) == 0
    assert (tmp_path / "models.toml").read_text() == f'[models.a]\npath = "{models / "a"}"\n'
    assert main(["config", "convert", str(tmp_path / "models.toml"), "--to", "tfs"]) == 0
    assert 'base_path: "' in capsys.readouterr().out
    config.write_text("model_config_list { conf {} }")
    assert main(["config", "check", str(config)]) == 2
    assert "line 1: " in capsys.readouterr().err
