"""Administration over HTTP and from the shell: models come, go and change names while others serve."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
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


def test_every_mistake_of_a_configuration_is_told_with_its_line(server: BackgroundServer) -> None:
    text = b"""default = "b"
[models.a]
path = "a"
engine = "onx"
versions = [1]
settle = -1
[models.a.labels]
stable = 2
"""
    answer = ask(server.url, "PUT", "/v1/config", text)
    assert answer.status == 400
    lines = answer.body.decode().partition("line ")[2].split("; line ")
    assert [line[0] for line in lines] == ["1", "3", "4", "6", "8"]
    told = ("'b'", "relative", "did you mean 'onnx'", "settle", "only 1 are served")
    for line, words in zip(lines, told, strict=True):
        assert words in line


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
    assert "is not available" not in run("list", url)
    assert infer(url, model="b", label="gold") == 10
    run("reload", url, "b", *auth)
    run("unload", url, "b", *auth)
    for args, told in (
        (("unload", url, "b", *auth), "no model 'b' is configured: there are 'a' (404)"),
        (("unload", url, "a"), "administration needs 'Authorization: Bearer TOKEN' (401)"),
        (("label", url, "a", "gold", *auth), "'gold' is not LABEL=VERSION"),
        (("label", url, "a", *auth), "give all labels that there shall be, such as stable=3, or --none"),
        (("label", url, "a", "gold=1", "--none", *auth), "give all labels that there shall be"),
        (("load", url, "a", "/x", "--versions", "newest", *auth), "versions is 'latest', 'all', "),
        (("load", url, "a", "/x", "--label", "gold", *auth), "'gold' is not LABEL=VERSION"),
        (("load", url, "a", "/x", "--settle", "-1", *auth), "settle is 0 or more seconds, not -1"),
        (("traffic", url, "a", *auth), "give weights, such as stable=95 canary=5, --newest, or --shadow"),
        (("traffic", url, "a", "1=x", *auth), "'1=x' is not VERSION=WEIGHT"),
        (("traffic", url, "a", "1=1", "--newest", *auth), "--newest takes the weights away: give none"),
        (("traffic", url, "a", "--share", "0.5", *auth), "--share is that of --shadow"),
        (("traffic", url, "a", "gold=1", *auth), "traffic: 'gold' is no version and none of its labels"),
        (("traffic", url, "a", "1=1"), "administration needs 'Authorization: Bearer TOKEN' (401)"),
        (("list", "https://127.0.0.1:1", "--ca", "no.pem"), "--ca no.pem: no certificates in it: No such file"),
        (("list", "ftp://x"), "is not a server"),
        (("list", "http://127.0.0.1:1"), "cannot ask http://127.0.0.1:1"),
        (("list", url, "--token-file", "x"), "No such option"),
    ):
        assert main(["models", *args]) == 2
        assert told in capsys.readouterr().err


def test_labels_without_a_version_are_told(
    server: BackgroundServer, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A version may come later, so they are accepted."""
    answer = json.loads(ask(server.url, "PUT", "/v1/models/a/labels", {"good": 1, "g": 99}).body)
    assert answer["labels"] == {"good": 1, "g": 99}
    assert answer["remarks"] == ["label 'g': version 99 is not available"]
    assert "model 'a': label 'g': version 99 is not available" in caplog.text
    assert main(["models", "list", server.url]) == 0
    assert capsys.readouterr().out.endswith("model a: label g: version 99 is not available\n")
    answer = json.loads(ask(server.url, "PUT", "/v1/models/a/labels", {"good": 1}).body)
    assert answer["remarks"] == []
    (tmp_path / "token").write_text(TOKEN)
    assert main(["models", "label", server.url, "a", "--none", "--token-file", str(tmp_path / "token")]) == 0
    assert server.app.service.status("a")[0].labels == {}


def test_a_model_is_loaded_from_the_shell_with_versions_and_labels(
    server: BackgroundServer, models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (models / "token").write_text(TOKEN)
    auth = ("--token-file", str(models / "token"))

    def load(versions: str, *more: str) -> ModelConfig:
        args = ("models", "load", server.url, "c", str(models / "a"), "--versions", versions)
        assert main([*args, *more, *auth]) == 0, capsys.readouterr().err
        assert server.app.service.repository is not None
        return server.app.service.repository.config.models[-1]

    wanted = ModelConfig(
        name="c", path=str(models / "a"), policy=VersionPolicy(specific=(1, 2)), labels={"old": 1, "new": 2}, settle=0
    )
    assert load("1,2", "--label", "old=1", "--label", "new=2", "--settle", "0") == wanted
    assert (infer(server.url, model="c", label="old"), infer(server.url, model="c", label="new")) == (1, 2)
    for text, policy in (("all", VersionPolicy(latest=0)), ("latest=2", VersionPolicy(2)), ("latest", VersionPolicy())):
        assert load(text) == replace(wanted, policy=policy)


def test_traffic_is_divided_and_copied_from_the_shell(
    server: BackgroundServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    assert ask(server.url, "PUT", "/v1/models/a/labels", {"old": 1, "new": 2}).status == 200

    def traffic(*args: str) -> dict[str, Any]:
        assert main(["models", "traffic", server.url, "a", *args, "--token-file", str(tmp_path / "token")]) == 0
        found: dict[str, Any] = json.loads(ask(server.url, "GET", "/v1/models").body)["models"][0]
        return found

    assert traffic("old=95", "new=0.5")["traffic"] == {"old": 95, "new": 0.5}
    assert traffic("old=1", "2=0")["traffic"] == {"old": 1, "2": 0}
    assert infer(server.url) == 1
    found = traffic("--shadow", "new", "--share", "0.25")
    assert found["traffic"] == {"old": 1, "2": 0}
    assert (found["shadow"]["to"], found["shadow"]["share"]) == ("new", 0.25)
    assert traffic("--shadow", "")["shadow"] is None
    assert traffic("--newest")["traffic"] == {}
    assert infer(server.url) == 2


def test_an_https_server_is_known_by_the_certificates_that_are_given(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    authority = Authority(models / "certificates")
    cert, key = authority.issue("server")
    with BackgroundServer(str(models / "b"), tls_cert=cert, tls_key=key) as server:
        assert main(["models", "list", server.url, "--ca", str(authority.root)]) == 0
        assert "b" in capsys.readouterr().out
        assert main(["top", server.url, "--count", "1", "--ca", str(authority.root)]) == 0
        assert "b" in capsys.readouterr().out
        assert main(["models", "list", server.url]) == 2
        assert "CERTIFICATE_VERIFY_FAILED" in capsys.readouterr().err
    assert main(["models", "list", server.url, "--ca", str(models / "b/1/model.onnx")]) == 2
    assert "no certificates in it" in capsys.readouterr().err
