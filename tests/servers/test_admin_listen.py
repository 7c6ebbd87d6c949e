"""Administration on a listener of its own: who can reach it, and that it is nowhere else."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fake_models import FakeModel, is_model, write_version
from processes import Start, first_line
from rawhttp import Answer, Raw, head, post
from waiting import wait_until

import tensorwire as tw
from tensorwire.servers.app import make_app
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig

TOKEN = "s3cret"
BODY = bytes(tw.encode(tw.Request({"x": np.ones(2, np.float32)})))
PAGES = [
    ("GET", "/v1/config"),
    ("PUT", "/v1/config"),
    ("POST", "/v1/models/m:load"),
    ("POST", "/v1/models/m:unload"),
    ("POST", "/v1/models/m:reload"),
    ("PUT", "/v1/models/m/labels"),
    ("PUT", "/v1/models/m/traffic"),
]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RepositoryConfig:
    monkeypatch.setattr("tensorwire.servers.app.load_version", lambda path, config: FakeModel(path))
    monkeypatch.setattr("tensorwire.servers.service.is_model", is_model)
    write_version(tmp_path / "m", 1)
    return RepositoryConfig(models=(ModelConfig(name="m", path=str(tmp_path / "m"), settle=0),))


@pytest.fixture
def server(config: RepositoryConfig, tmp_path: Path) -> Iterator[BackgroundServer]:
    with BackgroundServer(config=config, poll=0.05, admin_listen=f"unix:{tmp_path}/admin") as server:
        wait_until(lambda: server.app.service.ready)
        yield server


def ask(url: str, method: str, path: str, body: Any = None, token: str = "") -> Answer:
    data = b"" if body is None else json.dumps(body).encode()
    with Raw(url) as raw:
        fields = [f"Authorization: Bearer {token}"] if token else []
        raw.send(head(method, path, f"Content-Length: {len(data)}", *fields) + data)
        return raw.answer()


def test_a_unix_socket_is_this_users_and_needs_no_token(server: BackgroundServer, tmp_path: Path) -> None:
    (admin,) = server.app.admin_urls
    assert admin == f"unix://{tmp_path}/admin"
    assert stat.S_IMODE((tmp_path / "admin").stat().st_mode) == 0o600
    assert admin not in server.app.urls
    assert ask(admin, "GET", "/v1/config").body.startswith(b"[models.m]\n")
    assert ask(admin, "PUT", "/v1/models/m/labels", {"stable": 1}).status == 200
    with tw.Client(server.url) as client:
        found = client.infer({"x": np.ones(2, np.float32)}, label="stable")
    assert found["y"].tolist() == [2, 2]


@pytest.mark.parametrize(("method", "path"), PAGES)
def test_the_public_listener_has_no_administration(server: BackgroundServer, method: str, path: str) -> None:
    for token in ("", TOKEN):
        answer = ask(server.url, method, path, {}, token)
        assert answer.status in (404, 405), (method, path)
        assert b"[models.m]" not in answer.body
        assert "www-authenticate" not in answer.fields
    assert server.app.service.status("m")[0].ready


def test_the_other_pages_and_the_wire_are_on_both(server: BackgroundServer) -> None:
    for url in (server.url, *server.app.admin_urls):
        with Raw(url) as raw:
            assert raw.post(BODY).status == 200
            for path in ("/readyz", "/v1/models", "/v1/models/m", "/v1/stats"):
                assert raw.get(path).status == 200
            assert raw.post(BODY).status == 200
            # Whatever was handed over, and however often: administration stays where it is.
            assert raw.get("/v1/config").status == (200 if url.startswith("unix") else 404)


def test_the_connections_of_both_are_counted_and_finished(config: RepositoryConfig, tmp_path: Path) -> None:
    place = f"unix:{tmp_path}/admin"
    with BackgroundServer(config=config, poll=0.05, admin_listen=place, max_connections=2) as server:
        wait_until(lambda: server.app.service.ready)
        (admin,) = server.app.admin_urls
        with Raw(server.url) as one, Raw(server.url) as two:
            assert (one.post(BODY).status, two.get("/healthz").status) == (200, 200)
            with Raw(server.url) as refused:
                assert refused.post(BODY).status == 503
            with Raw(admin) as kept:
                assert kept.get("/control/client_count").body in (b"3\n", b"4\n")
                assert ask(admin, "GET", "/v1/config").status == 200
                wait_until(lambda: kept.get("/control/client_count").body == b"3\n")
                server.stop()
                assert kept.at_end() and one.at_end() and two.at_end()
    assert not (tmp_path / "admin").exists()


def test_with_a_token_it_is_needed_there(config: RepositoryConfig, tmp_path: Path) -> None:
    places = ["127.0.0.1:0", f"unix:{tmp_path}/admin"]
    with BackgroundServer(config=config, poll=0.05, admin_listen=places, admin_token=TOKEN) as server:
        wait_until(lambda: server.app.service.ready)
        assert len(server.app.admin_urls) == 2
        for url in server.app.admin_urls:
            for method, path in PAGES:
                assert ask(url, method, path, {}).status == 401
                assert ask(url, method, path, {}, "wrong").status == 401
            assert ask(url, "GET", "/v1/config", None, TOKEN).status == 200
        assert ask(server.url, "GET", "/v1/config", None, TOKEN).status == 404


@pytest.mark.parametrize(
    ("place", "told"),
    [
        (
            "127.0.0.1:0",
            "administration on 127.0.0.1:0 needs a token: only the file of a UNIX socket says who may do it",
        ),
        ("systemd", "administration listens on addresses, not on systemd's sockets"),
        ("nowhere", "'nowhere' is not an address"),
    ],
)
def test_places_where_it_cannot_be(config: RepositoryConfig, place: str, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        make_app(config=config, admin_listen=["unix:admin", place])


def test_a_taken_address_leaves_nothing_behind(config: RepositoryConfig, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(tw.TensorwireError, match="the file exists and is not a socket"):
        BackgroundServer(config=config, listen=f"unix:{tmp_path}/public", admin_listen=f"unix:{tmp_path}/taken")
    assert not (tmp_path / "public").exists()
    assert (tmp_path / "taken").read_text() == "a file"


def test_one_model_cannot_be_administered() -> None:
    with pytest.raises(ConfigError, match="administration is for models that a configuration or a base path names"):
        make_app(lambda inputs: inputs, admin_listen="unix:admin")


def test_from_the_shell(tmp_path: Path, start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")
    from version_folders import write

    write(tmp_path / "m", 1, 1)
    process = start(
        "-m", "tensorwire", "serve", str(tmp_path / "m"), "--listen", f"unix:{tmp_path}/public",
        "--socket-mode", "666", "--admin-listen", f"unix:{tmp_path}/admin",
    )  # fmt: skip
    assert first_line(process) == f"listening on unix://{tmp_path}/public (Ctrl-C to stop)"
    assert first_line(process) == f"administration on unix://{tmp_path}/admin"
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("public", "admin")] == [0o666, 0o600]
    wait_until(lambda: ask(f"unix://{tmp_path}/public", "GET", "/readyz").status == 200)
    assert main(["models", "label", f"unix://{tmp_path}/admin", "m", "gold=1"]) == 0
    assert "gold" in capsys.readouterr().out
    assert main(["models", "label", f"unix://{tmp_path}/public", "m", "gold=1"]) == 2
    assert "there is no administration here: see --admin-token-file" in capsys.readouterr().err
    for args, told in (
        (("--admin-listen", "nowhere"), "--admin-listen: 'nowhere' is not an address"),
        (("--admin-listen", "127.0.0.1:0"), "administration on 127.0.0.1:0 needs a token"),
        (("--admin-listen", "unix:x", "--workers", "2"), "instead, change the file of --config and send SIGHUP"),
    ):
        capsys.readouterr()
        assert main(["serve", str(tmp_path / "m"), *args]) == 2
        assert told in capsys.readouterr().err


def test_a_body_for_the_public_listener_that_looks_like_administration(server: BackgroundServer) -> None:
    with Raw(server.url) as raw:
        raw.send(post(BODY, "/v1/models/m:unload"))
        answer = raw.answer()
    assert answer.status == 404
    assert "there is no administration here" in json.loads(answer.body)["error"]
