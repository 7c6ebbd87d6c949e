"""Where a server is, and the request head that every message to it begins with."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from errno import ENOTCONN
from os import PathLike
from pathlib import Path
from socket import (
    AF_UNIX,
    IPPROTO_TCP,
    SO_LINGER,
    SO_SNDBUF,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
    TCP_NODELAY,
    create_connection,
    socket,
)
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit

from tensorwire._limit import TimeLimit
from tensorwire._proxy import Proxy, ProxyOption, find_proxy
from tensorwire._version import __version__
from tensorwire.errors import ConnectionLost, DeadlineExceeded

if TYPE_CHECKING:
    from ssl import SSLContext

File = str | PathLike[str]
Verify = bool | File
Cert = File | tuple[File, File] | None

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110, 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110, 5.5, as ISO 8859-1
# Over loopback a queue that a core's cache holds is faster than the megabytes that the kernel would grow it to:
# bench/NOTES.md has the measurements.
_LOOPBACK_SNDBUF = 384 << 10
# Over a UNIX socket the kernel's own queue is small (208 KiB), and makes the two sides wait for each other often.
_UNIX_SNDBUF = 512 << 10
PROXY_PIECE = 4096  # bytes of a proxy's answer read at once
_FRAMING = frozenset({"connection", "content-length", "expect", "te", "trailer", "transfer-encoding", "upgrade"})


def tune(sock: socket) -> None:
    """Set up a connected socket: TCP without delay, and on this machine a send queue of the right length."""
    if sock.family == AF_UNIX:
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, _UNIX_SNDBUF)
        return
    sock.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
    peer = sock.getpeername()[0]
    if peer.removeprefix("::ffff:").startswith("127.") or peer == "::1":
        sock.setsockopt(SOL_SOCKET, SO_SNDBUF, _LOOPBACK_SNDBUF)


def reset_when_closed(sock: socket) -> None:
    """Have closing a connection break it: a server may take a plain end for that of a client which still reads."""
    with suppress(OSError):  # closed already
        sock.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("@ii", 1, 0))


class Address:
    """An http://, https:// or unix:// URL, taken apart.

    The path and query of an http(s) URL are the request's target. A unix URL names the socket's file
    (``unix:///run/model.sock``, percent-escapes decoded) and its target is "/". ``text`` is what errors call
    the server. ``proxy`` is on the way to it: its requests' target is the whole URL, or with TLS a tunnel is made.
    Raises ValueError for another scheme, a missing host or path, credentials in the URL, or a proxy that is none.
    """

    __slots__ = (
        "_cert",
        "_context",
        "_verify",
        "authority",
        "host",
        "port",
        "proxy",
        "socket_path",
        "target",
        "text",
        "tls",
    )

    def __init__(self, url: str, *, verify: Verify = True, cert: Cert = None, proxy: ProxyOption = False) -> None:
        parts = urlsplit(url)
        if parts.username is not None or parts.password is not None:
            raise ValueError("credentials in a URL are not sent: give auth= or token=")
        self.text = url
        self.tls = parts.scheme == "https"
        self.host, self.port, self.socket_path = "", 0, ""
        self.proxy: Proxy | None = None
        self._context: SSLContext | None = None
        self._verify, self._cert = verify, cert
        if parts.scheme == "unix":
            if parts.netloc or not parts.path.startswith("/"):
                raise ValueError(f"{url!r}: a unix address is unix:///absolute/path.sock")
            if proxy:
                raise ValueError(f"{url!r}: unix:// has no proxy")
            self.socket_path = unquote(parts.path)
            self.target, self.authority = "/", "localhost"
        elif parts.scheme in ("http", "https"):
            if not parts.hostname:
                raise ValueError(f"{url!r} names no host")
            self.host = parts.hostname if parts.hostname.isascii() else parts.hostname.encode("idna").decode()
            self.port = parts.port or (443 if self.tls else 80)
            path = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
            query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
            self.target = f"{path}?{query}" if query else path
            name = f"[{self.host}]" if ":" in self.host else self.host
            self.authority = f"{name}:{parts.port}" if parts.port else name
            self.proxy = find_proxy(proxy, parts.scheme, f"{name}:{self.port}")
            if self.proxy is not None and not self.tls:
                self.target = f"http://{self.authority}{self.target}"
        else:
            raise ValueError(f"{url!r}: an address begins with http://, https:// or unix://")

    def connect(self, timeout: float | None) -> socket:
        """A new connection to the server, in blocking mode; TLS is negotiated and the certificate verified.

        ``timeout`` is in seconds for each step (name and TCP, TLS), None for no limit. Raises
        DeadlineExceeded and ConnectionLost.
        """
        try:
            return self._connect_unix(timeout) if self.socket_path else self._connect_tcp(timeout)
        except (BlockingIOError, TimeoutError) as error:
            raise self.unreached(timeout) from error
        except OSError as error:
            raise self.unreachable(error) from error

    @property
    def peer(self) -> tuple[str, int]:
        """Host and port to connect to: the server's, or the proxy's."""
        return (self.host, self.port) if self.proxy is None else (self.proxy.host, self.proxy.port)

    def unreachable(self, error: OSError) -> ConnectionLost:
        """The error of a connection that could not be made."""
        through = f" through the proxy {self.proxy.text}" if self.proxy is not None else ""
        reason = error.strerror or str(error)
        if reason.startswith("Connect call failed") and error.errno:  # asyncio's own words for any reason
            reason = os.strerror(error.errno)
        if "WRONG_VERSION_NUMBER" in reason or "HTTP_REQUEST" in reason:
            reason += f"; it does not speak TLS on port {self.port}: begin its address with http://"
        return connection_lost(f"{self.text}: cannot connect{through}: {reason}", unanswered=True)

    def unanswered(self) -> str:
        """What may be wrong, in words, when the server closes a new connection without an answer."""
        if self.socket_path:
            return ""
        if not self.tls:
            return "; if the server speaks TLS, begin its address with https://"
        if self._cert is None:
            return "; it may ask for a certificate of the client's: give cert="
        return "; it may not take the certificate given as cert="

    def unreached(self, timeout: float | None) -> DeadlineExceeded:
        """The error of a connection that was not made in time."""
        hint = "; if the server does not speak TLS, begin its address with http://" if self.tls else ""
        limit = "" if timeout is None else f" of {timeout:.3g} s"  # the system has one of its own
        return DeadlineExceeded(f"{self.text}: no connection within the limit{limit}{hint}")

    def _connect_unix(self, timeout: float | None) -> socket:
        limit = TimeLimit(timeout, timeout)
        sock = socket(AF_UNIX, SOCK_STREAM)
        try:
            while True:
                # A non-blocking connect fails at once when the server's backlog is full; a blocking one waits
                # for a place in it, for as long as SO_SNDTIMEO says.
                sock.setsockopt(SOL_SOCKET, SO_SNDTIMEO, timeval(limit.step(timeout)))
                sock.connect(self.socket_path)
                try:
                    sock.getpeername()
                except OSError as error:
                    if error.errno != ENOTCONN:
                        raise
                    continue  # A signal interrupted the wait, which Python takes for success.
                tune(sock)
                return sock
        except BaseException:
            sock.close()
            raise

    def _connect_tcp(self, timeout: float | None) -> socket:
        sock = create_connection(self.peer, timeout)
        try:
            tune(sock)
            if self.tls:
                if self.proxy is not None:
                    sock.sendall(self.proxy.connect_request(self.host, self.port))
                    answer = b""
                    while not self.proxy.connected(answer):
                        answer += received(sock.recv(PROXY_PIECE))
                sock = self.tls_context().wrap_socket(sock, server_hostname=self.host)
            sock.settimeout(None)
        except BaseException:
            sock.close()
            raise
        return sock

    def tls_context(self) -> SSLContext:
        """The certificates to trust and to show; made once, which takes tens of milliseconds. Raises OSError that
        names the option whose file cannot be used."""
        if self._context is None:
            from ssl import CERT_NONE, create_default_context

            verify = self._verify
            if isinstance(verify, bool):
                context = create_default_context()
            elif Path(verify).is_dir():
                context = create_default_context(capath=verify)
            else:
                with _naming("verify", verify):
                    context = create_default_context(cafile=verify)
            if verify is False:
                context.check_hostname = False
                context.verify_mode = CERT_NONE
            if self._cert is not None:
                files = (self._cert,) if isinstance(self._cert, (str, PathLike)) else self._cert
                with _naming("cert", *files):
                    context.load_cert_chain(*files)
            self._context = context
        return self._context


@contextmanager
def _naming(option: str, *files: File) -> Iterator[None]:
    """What goes wrong with an option's files names both."""
    try:
        yield
    except OSError as error:
        names = ", ".join(map(str, files))
        raise OSError(error.errno, f"{option}={names} cannot be used: {error.strerror or error}") from error


def received(data: bytes) -> bytes:
    """What came from a proxy; raises ConnectionError for the end of the stream."""
    if not data:
        raise ConnectionError("closed by the proxy")
    return data


def connection_lost(text: str, *, unanswered: bool) -> ConnectionLost:
    """The error, to be raised by the caller."""
    error = ConnectionLost(text)
    error.unanswered = unanswered
    return error


def request_head(address: Address, headers: Mapping[str, str] | None) -> bytes:
    """The head of a POST to this address, up to and including "content-length: ".

    ``headers`` are added; Host, User-Agent and Content-Type may be replaced by them. Raises ValueError for
    a field that HTTP does not allow, or that frames the message.
    """
    fields = {
        "host": address.authority,
        "user-agent": f"tensorwire/{__version__}",
        "content-type": "application/octet-stream",
    }
    if address.proxy is not None and not address.tls:
        fields |= address.proxy.fields
    for name, value in (headers or {}).items():
        if not _TOKEN.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError(f"not a header field: {name!r}: {value!r}")
        if name.lower() in _FRAMING:
            raise ValueError(f"header {name!r} is the connection's own and cannot be set")
        fields[name.lower()] = value
    lines = [f"POST {address.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*lines, "content-length: "]).encode("latin-1")


def timeval(seconds: float | None) -> bytes:
    """``struct timeval`` for SO_RCVTIMEO and SO_SNDTIMEO, where zero means no limit."""
    if seconds is None:
        return struct.pack("@ll", 0, 0)
    return struct.pack("@ll", *divmod(max(1, round(seconds * 1e6)), 1_000_000))
