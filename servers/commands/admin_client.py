"""Asking a server's pages, over TCP, TLS or a UNIX socket, by the standard library's HTTP client."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from contextlib import closing, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tensorwire.servers.commands.values import UserError, shown

__all__ = ["Pages", "ask", "read_token"]

_TIMEOUT = 600.0  # seconds: a load is answered when it is over
_MOST_QUOTED = 200  # bytes of what came instead of JSON


def read_token(path: Path | None) -> str:
    """The token in a file, without the line's end; '' for no file. Raises UserError."""
    if path is None:
        return ""
    try:
        token = path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--token-file {path}: {error}") from None
    if not token or not token.isascii() or any(c.isspace() for c in token):
        raise UserError(f"--token-file {path}: one word of ASCII is needed")
    return token


def ask(url: str, method: str, path: str, token: str = "", body: Any = None, ca: Path | None = None) -> Any:
    """The JSON that a page answers with; ``ca`` as for Pages. Raises UserError with what the server says is wrong."""
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    with closing(Pages(url, _TIMEOUT, ca)) as pages:
        return pages.ask(method, path, headers, data)


class Pages:
    """The pages of a server over one connection, which is opened again when it is lost: as long as it lasts, the same
    of several workers answers. ``timeout``: seconds without a byte. ``ca``: certificates (PEM) by which an https server
    is known, instead of the system's. Raises UserError for a bad URL, and for what are no certificates.
    """

    def __init__(self, url: str, timeout: float, ca: Path | None = None) -> None:
        self._url = url
        self._connection = _connection(url, timeout, ca)

    def get(self, path: str) -> Any:
        """The JSON of a page. Raises UserError with what is wrong."""
        if self._connection.sock is not None:
            # The server may have closed it meanwhile, which shows only now.
            with suppress(_Lost):
                return self.ask("GET", path, {})
        return self.ask("GET", path, {})

    def ask(self, method: str, path: str, headers: dict[str, str], body: bytes | None = None) -> Any:
        url = self._url
        try:
            self._connection.request(method, path, body, headers)
            response = self._connection.getresponse()
            text = response.read()
        except (OSError, UnicodeError) as error:
            self.close()
            raise _Lost(f"cannot ask {url}: {error}") from None
        except http.client.HTTPException as error:
            self.close()
            raise _Lost(f"{url} does not speak HTTP: {error!r}") from None
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            what = shown(text[:_MOST_QUOTED].decode(errors="replace"))
            if response.status < 300:
                raise UserError(f"{url} does not answer with JSON, as tensorwire does: {what}") from None
            answer = {"error": what}
        if response.status >= 300:
            reason = answer.get("error", "") if isinstance(answer, dict) else ""
            raise UserError(f"{url}: {shown(str(reason)) or shown(response.reason)} ({response.status})")
        return answer

    def close(self) -> None:
        """Close the connection; the next question opens another."""
        self._connection.close()


class _Lost(UserError):
    """The connection has failed."""


def _connection(url: str, timeout: float, ca: Path | None) -> http.client.HTTPConnection:
    wrong = UserError(f"{url!r} is not a server: http://host:port, https://host:port or unix:///path is needed")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise wrong from None
    if parts.scheme == "unix":
        return _UnixConnection(unquote(parts.path), timeout)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise wrong
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, port, timeout=timeout)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError among them
        raise UserError(f"--ca {ca}: no certificates in it: {error.strerror or error}") from None
    return http.client.HTTPSConnection(parts.hostname, port, timeout=timeout, context=context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
