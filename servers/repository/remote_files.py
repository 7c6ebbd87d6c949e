"""The files under a URL: what is there, what tells one state of it from another, and their bytes; fsspec reads them."""

from __future__ import annotations

import errno
import hashlib
import html
import io
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit

from tensorwire.servers.model import ModelError
from tensorwire.servers.repository.download import file_name, full_disk, http_options, is_url, plain_url
from tensorwire.servers.repository.drivers import missing_driver
from tensorwire.servers.repository.layout import version_names

__all__ = ["Away", "RemoteFile", "RemoteFiles", "State"]

MOST_FILES = 10_000
"""Files of a version: more are a wrong address rather than a model."""

_TIMEOUT = 60.0  # seconds without progress, where the driver lets us say so
_PIECE = 4 << 20
_BLOCK = 32 << 20  # bytes that a driver asks for at a time
_DEEPEST = 16
_LONGEST_NAME = 255
_LONGEST_REASON = 400
# What the file systems of fsspec tell of a file's content or of its last change, each by its own name for it.
_MARKS = (
    *("ETag", "etag", "Content-MD5", "md5Hash", "content_md5", "crc32c", "checksum", "generation", "VersionId", "sha"),
    *("Last-Modified", "LastModified", "last_modified", "updated", "modified", "modificationTime", "mtime", "created"),
)
_LOST = {"ConnectionError", "HTTPClientError", "ClientConnectionError"}
"""What botocore and aiohttp call their errors of connections."""


class Away(ModelError):
    """The place of the files cannot be reached, for now."""


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """``name`` is the driver's own, ``parts`` is where it belongs in a folder; ``nbytes`` None: not told."""

    name: str
    parts: tuple[str, ...]
    nbytes: int | None
    mark: str


@dataclass(frozen=True, slots=True)
class State:
    """All files of a version; ``digest`` is another when one of them has changed."""

    files: tuple[RemoteFile, ...]
    digest: str

    @property
    def nbytes(self) -> int:
        """Bytes, as far as they are told."""
        return sum(file.nbytes or 0 for file in self.files)

    def is_whole(self, folder: Path) -> bool:
        """The folder has all the files, and they have the sizes that are told."""
        for file in self.files:
            path = folder.joinpath(*file.parts)
            if not path.is_file() or (file.nbytes is not None and path.stat().st_size != file.nbytes):
                return False
        return True


class RemoteFiles:
    """Everything under one URL. All methods block, can be called from any thread, and raise ModelError: ``Away`` when
    it may be otherwise soon.
    """

    def __init__(self, url: str) -> None:
        self.shown = plain_url(url)
        self._url = url.partition("#")[0] if is_url(url) else url
        self._http = is_url(url)
        self._guard = threading.Lock()
        self._opened: tuple[Any, str] | None = None

    def versions(self) -> dict[int, str]:
        """The driver's names of the versions; a base path without numbered entries is version 1."""
        try:
            files, base = self._open()
            if self._http:
                if not self._is_page(files, base):
                    return {1: base}
                parent = base.rstrip("/")
                entries = [name for name in self._links(files, base) if name.rstrip("/").rpartition("/")[0] == parent]
            elif files.info(base)["type"] != "directory":
                return {1: base}
            else:
                entries = [entry["name"] for entry in files.ls(base, detail=True)]
        except Exception as error:
            raise self._error(error) from error
        inside = [name for name in entries if name.rstrip("/") != base.rstrip("/")]
        names = {name.rstrip("/").rpartition("/")[2]: name for name in inside}
        numbers = version_names(names)
        if numbers:
            return {number: names[name] for number, name in numbers.items()}
        return {1: base} if inside else {}

    def find(self, name: str) -> State:
        """All files of a version."""
        try:
            found = dict(self._found(name))
        except Exception as error:
            raise self._error(error) from error
        files = []
        for place, info in found.items():
            size = info.get("size")
            mark = " ".join(f"{key}={info[key]}" for key in _MARKS if info.get(key) is not None)
            parts = self._parts(name, place)
            if info.get("islink") or info.get("type") != "file":
                raise ModelError(f"{self.shown}: {'/'.join(parts)!r} is a link or a device, not a file or folder")
            files.append(RemoteFile(place, parts, None if size is None else int(size), mark))
        files.sort(key=lambda file: file.parts)
        digest = hashlib.sha256(repr([(file.parts, file.nbytes, file.mark) for file in files]).encode())
        return State(tuple(files), digest.hexdigest()[:16])

    def get(self, file: RemoteFile, path: Path, stop: threading.Event) -> None:
        """Write a file's bytes to a path where nothing is; ends soon after ``stop`` is set, with ModelError. Raises
        OSError, too, when the path cannot be written.
        """
        try:
            files, _ = self._open()
        except Exception as error:
            raise self._error(error) from error
        with path.open("xb", buffering=0) as target:
            sink = _Sink(target, path.parent, self.shown, stop)
            try:
                if self._http:
                    files.get_file(file.name, sink)
                else:
                    with files.open(file.name, "rb", block_size=_BLOCK) as source:
                        while piece := source.read(_PIECE):
                            sink.write(piece)
            except Exception as error:
                raise self._error(error) from error
        if file.nbytes is not None and sink.nbytes != file.nbytes:
            raise ModelError(
                f"{self.shown}: {sink.nbytes:,} bytes of {'/'.join(file.parts)} came instead of {file.nbytes:,}"
            )

    def _open(self) -> tuple[Any, str]:
        with self._guard:
            if self._opened is None:
                if missing := missing_driver(self._url):
                    raise ModelError(f"{self.shown}: {missing}")
                from fsspec.core import url_to_fs

                options = http_options(_TIMEOUT) if self._http else {}
                self._opened = url_to_fs(self._url, skip_instance_cache=True, **options)
            files, base = self._opened
        files.invalidate_cache()
        return files, base

    def _found(self, name: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        files, _ = self._open()
        count = 0
        for place, info in self._pages(files, name) if self._http else files.find(name, detail=True).items():
            # Stores without folders keep them as files of no bytes, whose names end as folders' do.
            if info.get("type") == "directory" or place.endswith("/"):
                continue
            count += 1
            if count > MOST_FILES:
                raise ModelError(f"{self.shown}: more than {MOST_FILES:,} files in one version: is the address right?")
            yield place, info or files.info(place)

    def _pages(self, files: Any, top: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """The files that index pages lead to, each asked for its size and state."""
        if not self._is_page(files, top):
            yield top, files.info(top)
            return
        folders = [top]
        while folders:
            folder = folders.pop()
            for name in self._links(files, folder):
                parts = self._parts(top, name.rstrip("/"))
                if not name.endswith("/"):
                    yield name, files.info(name)
                elif len(parts) > _DEEPEST:
                    raise ModelError(f"{self.shown}: folders are more than {_DEEPEST} deep")
                else:
                    folders.append(name)

    def _is_page(self, files: Any, name: str) -> bool:
        return name.endswith("/") or files.info(name).get("mimetype") == "text/html"

    def _links(self, files: Any, page: str) -> list[str]:
        """What an index page leads to below itself, without the page in another order."""
        found = {entry["name"] for entry in files.ls(page)}
        return sorted(name for name in found if not {"?", "#"} & set(name[len(page) :]) and name.rstrip("/") != page)

    def _parts(self, top: str, name: str) -> tuple[str, ...]:
        """Where a file belongs under the version's folder. Raises ModelError for a name that could lead elsewhere."""
        top = top.rstrip("/")
        if name.rstrip("/") == top:
            return (file_name(top) if self._http else file_name("/" + urlsplit(top).path.rpartition("/")[2]),)
        inside = name[len(top) + 1 :] if name.startswith(top + "/") else name
        if self._http:
            inside = unquote(html.unescape(inside))
        parts = tuple(inside.removeprefix("./").split("/"))
        if (
            not name.startswith(top + "/")
            or len(parts) > _DEEPEST + 1
            or any(part in ("", ".", "..") or len(part.encode(errors="replace")) > _LONGEST_NAME for part in parts)
            or any(letter == "\\" or not letter.isprintable() for letter in inside)
        ):
            raise ModelError(f"{self.shown}: {inside[:_LONGEST_NAME]!r} is no name for a file of a model")
        return parts

    def _error(self, error: Exception) -> ModelError:
        if isinstance(error, ModelError):
            return error
        cause: BaseException = error
        if isinstance(error, FileNotFoundError) and error.__cause__ is not None:
            cause = error.__cause__  # fsspec's name for every failure of http
        status = getattr(cause, "status", None)
        status = status if isinstance(status, int) else 0
        kind: type[ModelError] = ModelError
        if isinstance(cause, ImportError):
            reason = f"its driver cannot be used: {self._plain(cause)}"
        elif isinstance(cause, FileNotFoundError) or status == 404:
            reason = "no such file or folder"
        elif isinstance(cause, TimeoutError):
            kind, reason = Away, f"no answer or no progress for {_TIMEOUT:g} s"
        elif status:
            kind = Away if status >= 500 else ModelError
            reason = f"the server answered {status} {getattr(cause, 'message', '')}".rstrip()
        elif isinstance(cause, PermissionError):
            reason = f"may not be read: {self._plain(cause)}; look at the credentials that its driver finds"
        else:
            # Drivers have their own errors; those of connections are OSErrors in most, in others so called.
            lost = isinstance(cause, OSError) or not _LOST.isdisjoint(base.__name__ for base in type(cause).__mro__)
            kind, reason = Away if lost else ModelError, f"cannot be read: {self._plain(cause)}"
        return kind(f"{self.shown}: {reason}")

    def _plain(self, error: BaseException) -> str:
        """An error on one line, without what is secret in the address."""
        text = " ".join(str(error).split()) or type(error).__name__
        parts = urlsplit(self._url)
        for secret in (parts.netloc.rpartition("@")[0], parts.query):
            if secret:
                text = text.replace(secret, "...")
        return text[:_LONGEST_REASON]


class _Sink(io.RawIOBase):
    """A file of this machine that is being written, until ``stop`` is set."""

    def __init__(self, file: IO[bytes], folder: Path, shown: str, stop: threading.Event) -> None:
        self._file = file
        self._folder = folder
        self._shown = shown
        self._stop = stop
        self.nbytes = 0

    def write(self, data: Any) -> int:
        if self._stop.is_set():
            raise ModelError(f"{self._shown}: no longer needed")
        data = memoryview(data)
        try:
            written = 0
            while written < len(data):
                written += self._file.write(data[written:]) or 0
        except OSError as error:
            raise ModelError(f"{self._shown}: cannot be kept: {_reason(self._folder, error)}") from error
        self.nbytes += written
        return written


def _reason(folder: Path, error: OSError) -> str:
    text = error.strerror or str(error)
    return full_disk(folder, text) if error.errno == errno.ENOSPC else f"{folder}: {text}"
