"""Asking a server's administration pages, over TCP, TLS or a UNIX socket, by the standard library's HTTP client."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tensorwire.servers.commands.values import UserError, shown

__all__ = ["ask", "read_token"]

_TIMEOUT = 600.0  # seconds: a load is answered when it is over


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
    """The JSON that a page answers with; ``ca``: certificates (PEM) by which an https server is known, instead of the
    system's. Raises UserError with what the server says is wrong.
    """
    headers = {"Accept": "application/json"}
    if token:
        headers["Authorization"] = f"Bearer {token}"
    data = None if body is None else json.dumps(body).encode()
    if data is not None:
        headers["Content-Type"] = "application/json"
    connection = _connection(url, ca)
    try:
        connection.request(method, path, data, headers)
        response = connection.getresponse()
        text = response.read()
    except OSError as error:
        raise UserError(f"cannot ask {url}: {error}") from None
    except http.client.HTTPException as error:
        raise UserError(f"{url} does not speak HTTP: {error!r}") from None
    finally:
        connection.close()
    try:
        answer = json.loads(text)
    except ValueError:
        answer = {"error": text.decode(errors="replace")[:200]}
    if response.status >= 400:
        reason = answer.get("error", "") if isinstance(answer, dict) else ""
        raise UserError(f"{url}: {shown(str(reason)) or response.reason} ({response.status})")
    return answer


def _connection(url: str, ca: Path | None) -> http.client.HTTPConnection:
    parts = urlsplit(url)
    if parts.scheme == "unix":
        return _UnixConnection(unquote(parts.path))
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise UserError(f"{url!r} is not a server: http://host:port, https://host:port or unix:///path is needed")
    if parts.scheme == "http":
        return http.client.HTTPConnection(parts.hostname, parts.port, timeout=_TIMEOUT)
    try:
        context = ssl.create_default_context(cafile=ca)
    except OSError as error:  # ssl.SSLError among them
        raise UserError(f"--ca {ca}: no certificates in it: {error.strerror or error}") from None
    return http.client.HTTPSConnection(parts.hostname, parts.port, timeout=_TIMEOUT, context=context)


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_TIMEOUT)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)
