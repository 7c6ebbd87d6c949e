"""Base paths in S3, by its real driver from a server that speaks S3's protocol."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import Gate, Published, settled
from remote_repository import kept, model, offset, run

pytest.importorskip("s3fs", reason="models from s3:// need s3fs")
pytest.importorskip("moto.server", reason="an S3 server needs moto")

import fsspec
from moto.server import ThreadedMotoServer

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.config import VersionPolicy
from tensorwire.servers.repository.remote_files import Away, RemoteFiles
from tensorwire.servers.repository.repository import Repository

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")
URL = "s3://models/digits"


class Store:
    """A bucket "models", on a server that can be stopped and started again at the same address."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"
        self._order("reset")  # what it has belongs to the process
        self._order("reset-auth", b"inf")

    def put(self, name: str, body: bytes) -> None:
        files = fsspec.filesystem("s3", endpoint_url=self.url, skip_instance_cache=True)
        if not files.exists("models"):
            files.mkdir("models")
        files.pipe_file(f"models/{name}", body)

    def write(self, number: int, text: str) -> None:
        self.put(f"digits/{number}/model.fake", text.encode())

    def refuse(self) -> None:
        """Nobody's credentials are right any more."""
        self._order("reset-auth", b"0")

    def _order(self, what: str, body: bytes = b"") -> None:
        request = urllib.request.Request(f"{self.url}/moto-api/{what}", body, {"Content-Type": "text/plain"})
        with urllib.request.urlopen(request):
            pass

    def stop(self) -> None:
        self._server.stop()


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Store]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    store = Store()
    settings = {
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
        "AWS_ENDPOINT_URL_S3": store.url,
        "AWS_MAX_ATTEMPTS": "1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    yield store
    store.stop()


@pytest.mark.slow
def test_versions_come_and_change_and_stay_while_the_store_is_away(store: Store, tmp_path: Path) -> None:
    store.write(1, "1")
    store.write(2, "2")
    cache = tmp_path / "cache"

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [2])
        assert kept(cache) == ["2: 2"]
        store.write(3, "3")
        await settled(repository, lambda: published.versions() == [3])
        store.write(3, "30")
        await settled(repository, lambda: offset(published, 3) == 30)
        await settled(repository, lambda: kept(cache) == ["3: 30"])
        store.stop()
        await settled(repository, lambda: repository.models["m"].problem)
        assert "Could not connect to the endpoint" in repository.models["m"].problem
        assert published.versions() == [3]

    async def again(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [3])
        assert offset(published, 3) == 30 and repository.models["m"].problem

    run(test, cache, model(URL))
    run(again, cache, model(URL))


def test_a_file_is_version_1(store: Store, tmp_path: Path) -> None:
    store.put("only.fake", b"5")

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1])
        assert offset(published, 1) == 5

    run(test, tmp_path / "cache", model("s3://models/only.fake"))


@pytest.mark.slow
def test_folders_of_versions_deep_inside(store: Store, tmp_path: Path) -> None:
    for number in (1, 2):
        store.write(number, str(number))
        store.put(f"digits/{number}/deep/er/data.bin", b"x" * number)
    store.put("digits/3/", b"")  # a folder that somebody has made in a console

    async def test(repository: Repository, published: Published, gate: Gate) -> None:
        await settled(repository, lambda: published.versions() == [1, 2])
        await settled(repository, lambda: 3 in repository.models["m"].versions)
        assert repository.models["m"].versions[3].error == f"{URL}: the folder of version 3 is empty"

    run(test, tmp_path / "cache", model(URL, policy=VersionPolicy(latest=0)))
    assert sorted(path.stat().st_size for path in tmp_path.glob("cache/models/*/*/deep/er/data.bin")) == [1, 2]


def why_not(url: str = URL) -> ModelError:
    with pytest.raises(ModelError) as caught:
        RemoteFiles(url).versions()
    return caught.value


def test_what_is_wrong_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write(1, "1")
    assert str(why_not("s3://models/other")) == "s3://models/other: no such file or folder"
    assert "The specified bucket does not exist" in str(why_not("s3://nobody/digits"))
    store.refuse()
    told = str(why_not())
    assert told == f"{URL}: may not be read: Forbidden; look at the credentials that its driver finds"
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert str(why_not()) == f"{URL}: cannot be read: Unable to locate credentials"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    store.stop()
    away: Any = why_not()
    assert isinstance(away, Away) and "Could not connect to the endpoint" in str(away)
