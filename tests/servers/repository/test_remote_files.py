"""What is under a URL: states told apart, names that lead elsewhere refused, every failure one line."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_models import write_version
from index_pages import IndexServer

pytest.importorskip("fsspec", reason="models from URLs need fsspec")
pytest.importorskip("aiohttp", reason="models from URLs need aiohttp")

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository import remote_files
from tensorwire.servers.repository.drivers import missing_driver
from tensorwire.servers.repository.remote import RemoteSource
from tensorwire.servers.repository.remote_files import Away, RemoteFile, RemoteFiles
from tensorwire.servers.repository.source import LocalSource, is_remote, name_of, open_source


class Store:
    """A file system of fsspec that tells what a test wants it to."""

    def __init__(self, found: Mapping[str, Mapping[str, Any]], listed: list[str] | None = None) -> None:
        self.found = found
        self.listed = listed or []

    def invalidate_cache(self) -> None:
        pass

    def info(self, name: str) -> dict[str, Any]:
        return {"type": "directory", "name": name}

    def ls(self, name: str, detail: bool) -> list[dict[str, Any]]:
        return [{"name": name} for name in self.listed]

    def find(self, name: str, detail: bool) -> Mapping[str, Mapping[str, Any]]:
        return self.found


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[IndexServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = IndexServer(tmp_path)
    yield made
    made.close()


def in_store(monkeypatch: pytest.MonkeyPatch, store: Store) -> RemoteFiles:
    monkeypatch.setattr("fsspec.core.url_to_fs", lambda url, **_: (store, "bucket/m"))
    return RemoteFiles("memory://bucket/m")


@pytest.mark.parametrize(
    "name",
    [
        "bucket/m/1/../../x",
        "bucket/m/1/..",
        "bucket/m/1/a/../b",
        "bucket/m/1//x",
        "bucket/m/1//etc/passwd",
        "/etc/passwd",
        "bucket/m/2/x",
        "bucket/m/1x/y",
        "bucket/m/1/a\\b",
        "bucket/m/1/a\nb",
        "bucket/m/1/a\x00b",
        "bucket/m/1/" + "x" * 256,
        "bucket/m/1/" + "d/" * 20 + "x",
    ],
)
def test_names_that_could_lead_elsewhere_are_refused(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    files = in_store(monkeypatch, Store({name: {"type": "file", "size": 1}}))
    with pytest.raises(ModelError, match="is no name for a file of a model") as caught:
        files.find("bucket/m/1")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("info", [{"type": "other"}, {"type": "file", "islink": True}, {"type": "link"}])
def test_links_are_refused(monkeypatch: pytest.MonkeyPatch, info: dict[str, Any]) -> None:
    files = in_store(monkeypatch, Store({"bucket/m/1/x": {"size": 1, **info}}))
    with pytest.raises(ModelError, match="'x' is a link or a device, not a file or folder"):
        files.find("bucket/m/1")


def test_a_store_without_folders(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = ["bucket/m", "bucket/m/", "bucket/m/1/", "bucket/m/01", "bucket/m/notes.txt"]
    found = {
        "bucket/m/1/": {"type": "file", "size": 0},
        "bucket/m/1/d": {"type": "directory", "size": 0},
        "bucket/m/1/d/x": {"type": "file", "size": 5, "ETag": "a"},
    }
    files = in_store(monkeypatch, Store(found, listed))
    assert files.versions() == {1: "bucket/m/1/"}
    state = files.find("bucket/m/1/")
    assert [file.parts for file in state.files] == [("d", "x")] and state.nbytes == 5


@pytest.mark.parametrize(
    "change", [{"size": 6}, {"ETag": "b"}, {"LastModified": "now"}, {"mtime": 3.5}, {"md5Hash": "x"}]
)
def test_every_change_that_is_told_is_another_state(monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]) -> None:
    info = {"type": "file", "size": 5, "ETag": "a"}
    states = [
        in_store(monkeypatch, Store({"bucket/m/1/x": found})).find("bucket/m/1").digest
        for found in (info, dict(info), {**info, **change}, {**info, "last_accessed": 7})
    ]
    assert states[0] == states[1] == states[3] != states[2]


def test_too_many_files_are_a_wrong_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote_files, "MOST_FILES", 3)
    found = {f"bucket/m/1/{number}": {"type": "file", "size": 1} for number in range(4)}
    with pytest.raises(ModelError, match="more than 3 files in one version: is the address right"):
        in_store(monkeypatch, Store(found)).find("bucket/m/1")


def test_index_pages_with_hostile_links(site: IndexServer, tmp_path: Path) -> None:
    write_version(tmp_path, 1)
    site.page = b'<a href="?C=N;O=D">Name</a> <a href="../">up</a> <a href="//evil/7/">x</a> <a href="1/">1/</a>'
    assert RemoteFiles(site.url).versions() == {1: f"{site.url}/1/"}
    site.page = b'<a href="..%2F..%2Fpasswd">x</a>'
    with pytest.raises(ModelError, match=r"'../../passwd' is no name for a file"):
        RemoteFiles(site.url).find(f"{site.url}/1/")
    site.page = b'<a href="a%5Cb">x</a>'
    with pytest.raises(ModelError, match="is no name for a file"):
        RemoteFiles(site.url).find(f"{site.url}/1/")
    site.page = b'<a href="deeper/">x</a>'
    with pytest.raises(ModelError, match="folders are more than 16 deep"):
        RemoteFiles(site.url).find(f"{site.url}/1/")


def test_names_with_odd_letters_come_as_they_are(site: IndexServer, tmp_path: Path) -> None:
    name = "a b+ü&%41.fake"
    write_version(tmp_path, 1, name=name)
    files = RemoteFiles(site.url)
    (file,) = files.find(files.versions()[1]).files
    assert file.parts == (name,)
    files.get(file, tmp_path / "copy", threading.Event())
    assert (tmp_path / "copy").read_text() == "1"


def test_few_requests_for_a_look(site: IndexServer, tmp_path: Path) -> None:
    for number in range(1, 30):
        write_version(tmp_path, number)
    files = RemoteFiles(site.url)
    site.asked.clear()
    files.find(files.versions()[29])
    assert site.asked == ["HEAD /", "GET /", "GET /29/", "HEAD /29/model.fake"]


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_version(tmp_path / "tree", 1, "1" * 1000)
    source = RemoteSource(f"file://{tmp_path}/tree", tmp_path / "cache")
    state = source._files.find(source._files.versions()[1])
    version = source._version(1, source._files.versions()[1], state)
    with monkeypatch.context() as patched:
        patched.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
        with pytest.raises(ModelError, match=r"the disk of .* is full: 1,000 bytes are needed, 100 are free"):
            source._fetch(version)
    opened = Path.open

    def full(path: Path, mode: str = "r", *args: Any, **options: Any) -> Any:
        return Path("/dev/full").open("wb", buffering=0) if mode == "xb" else opened(path, mode, *args, **options)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "open", full)
        with pytest.raises(ModelError, match=r"the disk of .* is full: No space left on device"):
            source._fetch(version)
    assert [path.suffix for path in source._kept.folder.iterdir()] == [".lock"]
    source._fetch(version).close()
    assert (version.place / "model.fake").read_text() == "1" * 1000
    source.close()


def test_files_that_change_while_they_are_fetched_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_version(tmp_path / "tree", 1, "1")
    write_version(tmp_path / "tree", 1, "1", "other.fake")
    source = RemoteSource(f"file://{tmp_path}/tree", tmp_path / "cache")
    name = source._files.versions()[1]
    version = source._version(1, name, source._files.find(name))
    get = source._files.get

    def change(file: RemoteFile, path: Path, stop: threading.Event) -> None:
        get(file, path, stop)
        write_version(tmp_path / "tree", 1, "2")

    with monkeypatch.context() as patched:
        patched.setattr(source._files, "get", change)
        with pytest.raises(ModelError, match="its files have changed while they were fetched"):
            source._fetch(version)
    write_version(tmp_path / "tree", 1, "longer")
    with pytest.raises(ModelError, match=r"6 bytes of model.fake came instead of 1"):
        source._fetch(version)
    assert [path.suffix for path in source._kept.folder.iterdir()] == [".lock"]
    source.close()


def test_failures_are_one_line_without_secrets(site: IndexServer) -> None:
    port = site.port
    site.close()
    files = RemoteFiles(f"http://user:secret@127.0.0.1:{port}/m?token=hidden")
    with pytest.raises(Away) as caught:
        files.versions()
    text = str(caught.value)
    assert text.startswith(f"http://127.0.0.1:{port}/m: cannot be read: ")
    assert "secret" not in text and "hidden" not in text and "\n" not in text


@pytest.mark.parametrize(("status", "kind"), [(403, ModelError), (500, Away), (503, Away), (404, ModelError)])
def test_refusals_name_their_code(site: IndexServer, status: int, kind: type[ModelError]) -> None:
    site.status = status
    with pytest.raises(
        ModelError, match="no such file" if status == 404 else f"the server answered {status}"
    ) as caught:
        RemoteFiles(site.url).versions()
    assert type(caught.value) is kind


def test_what_has_to_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missing_driver("file:///x") == missing_driver("memory://x") == missing_driver("https://x/y") == ""
    assert "nothing is known of nonsense:// addresses" in missing_driver("nonsense://x")
    for scheme in ("s3", "gs", "http"):
        monkeypatch.delitem(sys.modules["fsspec.registry"]._registry, scheme, raising=False)
    for module, url, package in (
        ("s3fs", "s3://bucket/m", "s3fs"),
        ("gcsfs", "gs://bucket/m", "gcsfs"),
        ("aiohttp", "http://host/m", "'tensorwire[url]'"),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        monkeypatch.delitem(sys.modules, "fsspec.implementations.http", raising=False)
        assert missing_driver(url).endswith(f"run: pip install {package}")
    monkeypatch.setattr("tensorwire.servers.repository.drivers.find_spec", lambda _: None)
    assert missing_driver("hdfs://host/m") == "hdfs:// addresses need pyarrow; run: pip install pyarrow"
    monkeypatch.setitem(sys.modules, "fsspec.registry", None)
    with pytest.raises(
        ModelError, match=r"memory://m: models from URLs need fsspec; run: pip install 'tensorwire\[url\]'"
    ):
        RemoteFiles("memory://m").versions()


def test_sources_and_names(tmp_path: Path) -> None:
    assert is_remote("s3://bucket/m") and not is_remote("/srv/m")
    assert isinstance(open_source(str(tmp_path), lambda _: False), LocalSource)
    assert [name_of(url) for url in ("https://u:p@host/a/digits/", "s3://bucket/m.onnx?x=1", "gs://bucket")] == [
        "digits",
        "m",
        "bucket",
    ]
