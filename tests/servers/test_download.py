"""Models from URLs: fetched once, checked, kept, and one line for everything that goes wrong."""

from __future__ import annotations

import hashlib
import shutil
import socket
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("fsspec", reason="models from URLs need fsspec")
pytest.importorskip("aiohttp", reason="models from URLs need aiohttp")

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.download import Fetched, fetch, is_url, plain_url

BODY = bytes(range(256)) * 40
DIGEST = hashlib.sha256(BODY).hexdigest()


class Site:
    """A web server whose answers a test sets; ``asked`` are the requests that came."""

    def __init__(self) -> None:
        self.body = BODY
        self.status = 200
        self.headers: dict[str, str] = {"ETag": '"1"'}
        self.announced: int | None = len(BODY)
        self.head_status = 200
        self.stall = threading.Event()
        self.stall.set()
        self.asked: list[str] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                site.asked.append("HEAD")
                self.start(site.head_status)

            def do_GET(self) -> None:
                site.asked.append("GET")
                assert self.headers["Accept-Encoding"] == "identity"
                if self.path.startswith("/moved"):
                    site.headers["Location"] = "/model.pb"
                    self.start(302)
                    del site.headers["Location"]
                    return
                self.start(site.status)
                self.wfile.write(site.body)
                self.wfile.flush()
                site.stall.wait(60)

            def start(self, status: int) -> None:
                self.send_response(status)
                for name, value in site.headers.items():
                    self.send_header(name, value)
                if site.announced is not None:
                    self.send_header("Content-Length", str(site.announced))
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/some%20dir/model.pb"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self.stall.set()
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    made = Site()
    yield made
    made.close()


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob("part-*"))


def failure(url: str, folder: Path, **options: Any) -> str:
    with pytest.raises(ModelError) as caught:
        fetch(url, folder, **options)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(plain_url(url))
    assert not leftovers(folder)
    return text


def test_a_file_is_fetched_once_and_asked_after_later(site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    found = fetch(site.url, tmp_path, progress=lambda done, expected: seen.append((done, expected)))
    assert found == Fetched(found.path, DIGEST, len(BODY), "downloaded")
    assert (found.path.name, found.path.read_bytes()) == ("model.pb", BODY)
    assert seen[-1] == (len(BODY), len(BODY))
    assert found.path.stat().st_mode & 0o077 == 0
    assert site.asked == ["HEAD", "GET"]
    assert fetch(site.url, tmp_path) == Fetched(found.path, DIGEST, len(BODY), "unchanged")
    assert site.asked == ["HEAD", "GET", "HEAD"]
    assert not leftovers(tmp_path)


def test_a_changed_file_is_fetched_again(site: Site, tmp_path: Path) -> None:
    fetch(site.url, tmp_path)
    site.body, site.headers = BODY[::-1], {"ETag": '"2"'}
    found = fetch(site.url, tmp_path)
    assert (found.how, found.path.read_bytes()) == ("downloaded", BODY[::-1])


def test_a_server_that_tells_nothing_is_asked_for_all(site: Site, tmp_path: Path) -> None:
    site.headers = {}
    assert [fetch(site.url, tmp_path).how for _ in range(2)] == ["downloaded", "downloaded"]


def test_a_server_without_head_is_asked_otherwise(site: Site, tmp_path: Path) -> None:
    site.head_status = 405
    assert [fetch(site.url, tmp_path).how for _ in range(2)] == ["downloaded", "unchanged"]


def test_a_server_that_is_gone_leaves_the_kept_file(site: Site, tmp_path: Path) -> None:
    fetch(site.url, tmp_path)
    site.status = site.head_status = 404
    assert "has no such file" in failure(site.url, tmp_path)
    site.status = site.head_status = 503
    assert fetch(site.url, tmp_path).how == "not checked"
    site.close()
    assert fetch(site.url, tmp_path).how == "not checked"
    assert "cannot be fetched" in failure(site.url.replace("model", "other"), tmp_path)


def test_a_damaged_file_is_not_served(site: Site, tmp_path: Path) -> None:
    fetch(site.url, tmp_path).path.write_bytes(b"damaged")
    found = fetch(site.url, tmp_path)
    assert (found.how, found.path.read_bytes()) == ("downloaded", BODY)


def test_two_urls_are_two_files(site: Site, tmp_path: Path) -> None:
    first, second = fetch(site.url, tmp_path), fetch(site.url + "?v=2", tmp_path)
    assert first.path != second.path
    assert fetch(site.url.replace("model.pb", "..%2F..%2Fx"), tmp_path).path.is_relative_to(tmp_path)


def test_a_redirect_is_followed(site: Site, tmp_path: Path) -> None:
    site.head_status = 405
    assert fetch(site.url.replace("/some%20dir/", "/moved/"), tmp_path).path.read_bytes() == BODY


def test_a_digest_in_the_url_is_held_against_the_file(site: Site, tmp_path: Path) -> None:
    assert fetch(f"{site.url}#sha256={DIGEST.upper()}", tmp_path).sha256 == DIGEST
    assert fetch(f"{site.url}#sha256={DIGEST}", tmp_path).how == "unchanged"
    assert f"its SHA-256 is {DIGEST}, not {'0' * 64}" in failure(f"{site.url}#sha256={'0' * 64}", tmp_path)
    assert "64 hexadecimal digits" in failure(f"{site.url}#sha256=12", tmp_path)


@pytest.mark.parametrize(
    ("status", "message"), [(404, "has no such file (404)"), (403, "answered 403"), (500, "answered 500")]
)
def test_a_refusal_names_its_code(site: Site, tmp_path: Path, status: int, message: str) -> None:
    site.status = site.head_status = status
    assert message in failure(site.url, tmp_path)


def test_a_file_over_the_limit_is_refused(site: Site, tmp_path: Path) -> None:
    limit = len(BODY) - 1
    assert f"larger than the limit of {limit:,} bytes" in failure(site.url, tmp_path, max_bytes=limit)
    site.announced = None
    assert f"larger than the limit of {limit:,} bytes" in failure(site.url, tmp_path, max_bytes=limit)
    assert fetch(site.url, tmp_path, max_bytes=len(BODY)).sha256 == DIGEST


def test_a_file_cut_short_is_refused(site: Site, tmp_path: Path) -> None:
    site.announced = len(BODY) + 1
    assert "cannot be fetched" in failure(site.url, tmp_path)


def test_a_server_that_stops_talking_is_given_up(site: Site, tmp_path: Path) -> None:
    site.announced = len(BODY) + 1
    site.stall.clear()
    assert "no progress for 0.2 s" in failure(site.url, tmp_path, timeout=0.2)


def test_a_full_disk_is_told_before_it_is_full(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=100))
    assert f"is full: {len(BODY):,} bytes are needed, 100 are free" in failure(site.url, tmp_path)


def test_a_folder_that_cannot_be_made_is_named(site: Site, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "cannot be kept in" in failure(site.url, tmp_path / "file")


def test_nobody_listens(tmp_path: Path) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert "cannot be fetched" in failure(f"http://127.0.0.1:{unused.getsockname()[1]}/m", tmp_path)


def test_without_the_extra_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    assert "pip install 'tensorwire[url]'" in failure("http://127.0.0.1:1/m", tmp_path)


def test_addresses() -> None:
    assert is_url("HTTPS://host/x")
    assert not is_url("model.pb")
    assert plain_url("https://user:secret@host:8/a/b.pb?token=x#sha256=1") == "https://host:8/a/b.pb"
