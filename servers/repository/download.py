"""Models from http and https addresses: fetched once, kept in a folder, and known by their SHA-256."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from tensorwire.servers.model import ModelError

__all__ = [
    "LARGEST",
    "Fetched",
    "fetch",
    "file_name",
    "find_pin",
    "full_disk",
    "http_options",
    "is_url",
    "plain_url",
    "url_folder",
]

LARGEST = 16 * 2**30
"""Bytes of a model, unless the caller says otherwise."""

Progress = Callable[[int, int | None], None]

_CONNECT_TIMEOUT = 10.0
_PIN = re.compile(r"sha256=([0-9a-fA-F]{64})")
_VALIDATORS = ("ETag", "Last-Modified", "size")  # what a HEAD request tells of a file's state


@dataclass(frozen=True, slots=True)
class Fetched:
    """A model that is now a local file.

    ``how``: 'downloaded', 'unchanged' (the server says that the kept file is its own), or 'not checked' (the server
    could not be asked, so the kept file is used).
    """

    path: Path
    sha256: str
    nbytes: int
    how: str


def is_url(text: str) -> bool:
    """True for http:// and https:// addresses."""
    return text.lower().startswith(("http://", "https://"))


def plain_url(url: str) -> str:
    """The address without its user, password, query and fragment, for people's eyes and logs."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def url_folder(cache: Path, address: str) -> Path:
    """Where in a cache is kept what an address leads to."""
    return cache / "models" / hashlib.sha256(address.encode()).hexdigest()[:32]


def file_name(address: str) -> str:
    """The name of the file at an address, fit for any folder; 'model' where it has none."""
    name = unquote(urlsplit(address).path).rpartition("/")[2]
    return re.sub(r"[^\w.+-]", "_", name)[-100:].lstrip(".") or "model"


def full_disk(folder: Path, reason: str | None) -> str:
    """What is said when the disk of a cache has no room."""
    return f"the disk of {folder} is full: {reason}"


def http_options(timeout: float) -> dict[str, Any]:
    """What fsspec's file system for http is made with; ``timeout``: seconds without progress."""
    import aiohttp

    limits = aiohttp.ClientTimeout(total=None, sock_connect=min(timeout, _CONNECT_TIMEOUT), sock_read=timeout)
    return {"client_kwargs": {"timeout": limits, "trust_env": True, "headers": {"Accept-Encoding": "identity"}}}


def fetch(
    url: str, folder: Path, *, max_bytes: int = LARGEST, timeout: float = 60.0, progress: Progress | None = None
) -> Fetched:
    """The file at a URL as a local one, downloaded unless ``folder`` has it already and the server still does.

    A URL that ends in '#sha256=<64 hexadecimal digits>' is refused when the file's digest is another. The file is
    written beside its final place and renamed, so that no half of one is ever served. ``timeout``: seconds without
    progress. ``progress`` is called with the bytes that came and their expected number (None: unknown), on another
    thread. HTTP_PROXY, HTTPS_PROXY and NO_PROXY are obeyed.

    Raises ModelError: not found, refused, unreachable, too slow, too large, cut short, of another digest, disk full,
    fsspec or aiohttp not installed.
    """
    place = _Place(url, folder)
    shown = plain_url(url)
    pin = find_pin(url, shown)
    try:
        server = _Server(url.partition("#")[0], timeout)
        place.make()
        kept = place.kept(pin)
        state, answered = server.state()
        if kept is not None and not answered:
            return replace(kept, how="not checked")
        if kept is not None and state is not None and place.still(state):
            return kept
        return place.store(server, state, _Limits(shown, max_bytes, pin), progress)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{shown}: {_reason(error, folder, timeout)}") from error


def find_pin(url: str, shown: str) -> str | None:
    """The SHA-256 that a URL ends in, if it does. Raises ModelError, which names the URL as ``shown``."""
    fragment = urlsplit(url).fragment
    if not fragment:
        return None
    match = _PIN.fullmatch(fragment)
    if match is None:
        raise ModelError(f"{shown}: what follows '#' is not sha256= and 64 hexadecimal digits")
    return match[1].lower()


@dataclass(frozen=True, slots=True)
class _Limits:
    shown: str
    max_bytes: int
    pin: str | None


class _Server:
    """Where the file comes from, asked by fsspec."""

    def __init__(self, url: str, timeout: float) -> None:
        try:
            import aiohttp
            import fsspec
        except ImportError as error:
            raise ModelError(
                f"{plain_url(url)}: models from URLs need {error.name}; run: pip install 'tensorwire[url]'"
            ) from None
        self._url = url
        self._unreachable: tuple[type[BaseException], ...] = (aiohttp.ClientConnectionError, TimeoutError)
        self._files: Any = fsspec.filesystem("http", skip_instance_cache=True, **http_options(timeout))

    def state(self) -> tuple[dict[str, str] | None, bool]:
        """What tells the file's state from others (None: the server does not say), and whether the server is there."""
        try:
            info = self._files.info(self._url)
        except FileNotFoundError as error:  # fsspec's name for every failure
            cause = error.__cause__
            status = getattr(cause, "status", 0)
            return None, not (status >= 500 or isinstance(cause, self._unreachable))
        found = {name: str(info[name]) for name in _VALIDATORS if info.get(name) is not None}
        return (found if "ETag" in found or "Last-Modified" in found else None), True

    def download(self, sink: _Sink) -> int | None:
        """Write the file to the sink; returns the size that the server announced."""
        from fsspec.callbacks import Callback

        callback = Callback()
        sink.expected = lambda: callback.size
        self._files.get_file(self._url, sink, callback=callback)
        return None if callback.size is None else int(callback.size)


class _Sink(io.RawIOBase):
    """A file that knows the digest and the number of the bytes written to it, and takes no more than it may."""

    def __init__(self, file: IO[bytes], folder: Path, limits: _Limits, progress: Progress | None) -> None:
        self._file = file
        self._folder = folder
        self._limits = limits
        self._progress = progress
        self._hash = hashlib.sha256()
        self.nbytes = 0
        self.expected: Callable[[], int | None] = lambda: None

    def write(self, data: Any) -> int:
        expected = self.expected()
        if not self.nbytes and expected is not None:
            self._check(expected)
            free = shutil.disk_usage(self._folder).free
            if expected > free:
                raise OSError(errno.ENOSPC, f"{expected:,} bytes are needed, {free:,} are free")
        self.nbytes += len(data)
        self._check(self.nbytes)
        self._hash.update(data)
        if self._progress is not None:
            self._progress(self.nbytes, expected)
        return self._file.write(data)

    def digest(self) -> str:
        return self._hash.hexdigest()

    def _check(self, nbytes: int) -> None:
        if nbytes > self._limits.max_bytes:
            raise ModelError(f"{self._limits.shown}: larger than the limit of {self._limits.max_bytes:,} bytes")


class _Place:
    """Where the file of one URL is kept: a folder with the file, under its own name, and what is known of it."""

    def __init__(self, url: str, folder: Path) -> None:
        address = url.partition("#")[0]
        self._folder = url_folder(folder, address)
        self.file = self._folder / file_name(address)
        self._about = self._folder / "about.json"

    def make(self) -> None:
        """The model is private to the user, as its address may be."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def kept(self, pin: str | None) -> Fetched | None:
        """The file that is here, when it is whole and the one that is asked for."""
        about = self._read()
        try:
            with self.file.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                nbytes = os.fstat(file.fileno()).st_size
        except OSError:
            return None
        if digest != about.get("sha256") or (pin is not None and digest != pin):
            return None
        return Fetched(self.file, digest, nbytes, "unchanged")

    def still(self, state: dict[str, str]) -> bool:
        """The server's file is the one that was downloaded."""
        return self._read().get("state") == state

    def store(
        self, server: _Server, state: dict[str, str] | None, limits: _Limits, progress: Progress | None
    ) -> Fetched:
        part = tempfile.NamedTemporaryFile(dir=self._folder, prefix="part-", delete=False)  # noqa: SIM115
        try:
            with part:
                sink = _Sink(part, self._folder, limits, progress)
                announced = server.download(sink)
                part.flush()
                os.fsync(part.fileno())
            if announced is not None and sink.nbytes != announced:
                raise ModelError(f"{limits.shown}: {sink.nbytes:,} bytes came instead of {announced:,}")
            if limits.pin is not None and sink.digest() != limits.pin:
                raise ModelError(f"{limits.shown}: its SHA-256 is {sink.digest()}, not {limits.pin}")
            Path(part.name).replace(self.file)
        finally:
            Path(part.name).unlink(missing_ok=True)
        self._write({"sha256": sink.digest(), "state": state})
        return Fetched(self.file, sink.digest(), sink.nbytes, "downloaded")

    def _read(self) -> dict[str, Any]:
        try:
            found = json.loads(self._about.read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _write(self, about: dict[str, Any]) -> None:
        # A crash before this leaves a file with another's digest, which is then downloaded once more.
        with tempfile.NamedTemporaryFile("w", dir=self._folder, prefix="part-", delete=False) as file:
            json.dump(about, file)
        Path(file.name).replace(self._about)


def _reason(error: Exception, folder: Path, timeout: float) -> str:
    """Why a download failed, on one line, with what to do where that is known."""
    status = getattr(error, "status", None)
    if isinstance(error, FileNotFoundError) and error.errno is None:
        return "the server has no such file (404)"
    if isinstance(error, TimeoutError):
        return f"no answer or no progress for {timeout:g} s"
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return full_disk(folder, error.strerror)
    if isinstance(error, OSError) and error.filename is not None:
        return f"cannot be kept in {folder}: {error.strerror}"
    if isinstance(status, int) and status:
        return f"the server answered {status} {getattr(error, 'message', '')}".rstrip()
    text = " ".join(str(error).split())
    return f"cannot be fetched: {text or type(error).__name__}"
