"""HTTP proxies on the way to a server: which one, and what to say to it."""

from __future__ import annotations

import os
from base64 import b64encode
from typing import Final, Literal
from urllib.parse import unquote, urlsplit

from tensorwire._version import __version__

__all__ = ["Proxy", "ProxyOption", "find_proxy"]

ProxyOption = str | Literal[False] | None
"""A proxy's URL, False for none, None for what the environment says."""

_HEAD_LIMIT: Final = 16 * 1024  # bytes of a proxy's answer
_END_OF_HEAD: Final = b"\r\n\r\n"


class Proxy:
    """An HTTP proxy, by its URL: http://[user:password@]host:port, or host:port.

    ``host`` and ``port`` are where to connect to; ``text`` is what errors call it, without credentials. Raises
    ValueError for any other URL.
    """

    __slots__ = ("_authorization", "host", "port", "text")

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"http://{url}")
        if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/") or parts.query:
            # Without the URL, which may hold a password.
            raise ValueError("a proxy is http://[user:password@]host:port")
        self.host = parts.hostname
        self.port = parts.port or 80
        name = f"[{self.host}]" if ":" in self.host else self.host
        self.text = f"http://{name}:{self.port}"
        self._authorization = ""
        if parts.username is not None:
            pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
            self._authorization = f"Basic {b64encode(pair.encode()).decode()}"

    @property
    def fields(self) -> dict[str, str]:
        """Header fields that the proxy wants of a request."""
        return {"proxy-authorization": self._authorization} if self._authorization else {}

    def connect_request(self, host: str, port: int) -> bytes:
        """What asks the proxy for a tunnel to a server."""
        name = f"[{host}]" if ":" in host else host
        fields = {"host": f"{name}:{port}", "user-agent": f"tensorwire/{__version__}", **self.fields}
        lines = [f"CONNECT {name}:{port} HTTP/1.1", *(f"{key}: {value}" for key, value in fields.items()), "", ""]
        return "\r\n".join(lines).encode("latin-1")

    def connected(self, answer: bytes) -> bool:
        """Whether the tunnel stands, by what has come from the proxy so far; False: there is more to come.

        Raises ConnectionError when the proxy refuses, or answers with something else.
        """
        end = answer.find(_END_OF_HEAD)
        if end < 0:
            if len(answer) > _HEAD_LIMIT:
                raise ConnectionError(f"the proxy {self.text} answered with over {_HEAD_LIMIT} bytes of a head")
            return False
        status = answer.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        if not status[0].startswith("HTTP/1.") or len(status) < 2 or not status[1].isdigit():
            raise ConnectionError(f"{self.text} is no HTTP proxy: it answered {answer[:32]!r}")
        if not status[1].startswith("2"):
            raise ConnectionError(f"the proxy {self.text} refused: {' '.join(status[1:])}")
        if end + len(_END_OF_HEAD) < len(answer):
            # In TLS the client speaks first: these bytes are not the server's.
            raise ConnectionError(f"the proxy {self.text} sent more than its answer")
        return True


def find_proxy(option: ProxyOption, scheme: str, authority: str) -> Proxy | None:
    """The proxy for a server: the one given, or what http_proxy, https_proxy, all_proxy and no_proxy say.

    ``scheme`` is "http" or "https", ``authority`` the server's host:port. Raises ValueError for a URL that is no
    proxy's, of which the text names the variable.
    """
    if option is not None:
        return Proxy(option) if option is not False else None
    if not any(name.lower().endswith("_proxy") for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass

    proxies = getproxies()
    which = scheme if proxies.get(scheme) else "all"
    url = proxies.get(which)
    if not url or proxy_bypass(authority):
        return None
    try:
        return Proxy(url)
    except ValueError as error:
        raise ValueError(f"{which}_proxy in the environment: {error}; proxy=False ignores it") from None
