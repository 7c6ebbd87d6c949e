"""Real models from URLs, served from end to end, and the commands that name them."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from index_pages import IndexServer
from processes import Start, first_line
from rawhttp import Raw
from version_folders import X, write
from waiting import wait_until

pytest.importorskip("fsspec", reason="models from URLs need fsspec")
pytest.importorskip("aiohttp", reason="models from URLs need aiohttp")
pytest.importorskip("onnxruntime", reason="these models run on onnxruntime")

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for number in (1, 2):
        write(tmp_path / "tree" / "m", number, number)
    made = IndexServer(tmp_path / "tree")
    yield made
    made.close()


@pytest.fixture
def models(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    return tmp_path / "tree" / "m"


def infer(url: str, model: str = "m") -> float:
    with tw.Client(url) as client:
        return float(client.infer({"x": X}, model=model)["y"][1])


@pytest.mark.parametrize("kind", ["file", "http"])
def test_versions_from_a_url(models: Path, site: IndexServer, tmp_path: Path, kind: str) -> None:
    url = f"{site.url}/m" if kind == "http" else f"file://{models}"
    with BackgroundServer(url, model_cache=tmp_path / "cache", poll=0.05) as server:
        wait_until(lambda: server.app.service.ready)
        assert infer(server.url) == 2
        write(models, 3, 3)
        wait_until(lambda: infer(server.url) == 3)
        site.close()
        assert infer(server.url) == 3
    assert [path.name for path in (tmp_path / "cache").glob("models/*/3-*/*")] == ["model.onnx"]


def test_one_file_from_a_url(models: Path, site: IndexServer, tmp_path: Path) -> None:
    url = f"{site.url}/m/2/model.onnx"
    with BackgroundServer(url, name="two", model_cache=tmp_path / "cache", poll=0.05) as server:
        wait_until(lambda: server.app.service.ready)
        assert infer(server.url, "two") == 2


@pytest.mark.parametrize("option", ["", "--model_base_path"])
def test_serve_takes_a_url(models: Path, site: IndexServer, tmp_path: Path, start: Start, option: str) -> None:
    url = f"{site.url}/m"
    process = start(
        *("-m", "tensorwire", "serve", f"{option}={url}" if option else url),
        *("--model-cache", f"{tmp_path}/cache", "--listen", f"unix:{tmp_path}/s"),
    )
    assert "listening on" in first_line(process)

    def ready() -> bool:
        with Raw(f"unix://{tmp_path}/s") as raw:
            return raw.get("/readyz").status == 200

    wait_until(ready)
    assert infer(f"unix://{tmp_path}/s") == 2
    site.answering.clear()
    before = len(site.asked)
    wait_until(lambda: len(site.asked) > before)
    # A look that hangs keeps nobody from stopping.
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 0


def test_config_check_names_missing_drivers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, "s3", raising=False)
    config = tmp_path / "models.toml"
    config.write_text(
        '[models.a]\npath = "s3://bucket/a"\n[models.b]\npath = "nonsense://b"\n[models.c]\npath = "memory://c"\n'
    )
    assert main(["config", "check", str(config)]) == 0
    shown = " ".join(capsys.readouterr().out.replace("│", " ").split())
    assert "pip install s3fs" in shown and "nothing is known of nonsense:// addresses" in shown
    assert "3 models, 2 base paths cannot be read: no mistakes" in shown
