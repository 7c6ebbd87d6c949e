"""Where a server listens: text such as 'host:port', '[::1]:port', 'unix:/path' or 'systemd', and sockets there."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

from tensorwire.errors import TensorwireError
from tensorwire.servers.activation import activated_sockets

__all__ = ["BACKLOG", "Address", "ListenError", "Listener", "listen", "parse_address", "reserve"]

BACKLOG = 1024
"""Connections that may wait to be accepted."""


class ListenError(TensorwireError, OSError):
    """A server cannot listen on an address; the text names the address and what to do."""


@dataclass(frozen=True, slots=True)
class Address:
    """A TCP host and port, or the path of a UNIX socket (then host is '' and port 0), or what systemd has opened."""

    host: str = ""
    port: int = 0
    path: str = ""
    systemd: bool = False

    def __str__(self) -> str:
        if self.systemd:
            return "systemd"
        if self.path:
            return f"unix:{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class Listener:
    """A socket that is bound, and listens unless ``reserved``; ``inode`` identifies the file of a UNIX socket (0: not
    ours to remove).
    """

    sock: socket.socket
    address: Address
    inode: int = 0
    reserved: bool = False

    @property
    def unix(self) -> bool:
        return bool(self.address.path)

    def url(self, scheme: str = "http") -> str:
        """What a client on this machine is given; for an address of all interfaces, the loopback one."""
        if self.unix:
            return f"unix://{quote(self.address.path)}"
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.address.host, self.address.host)
        return f"{scheme}://{Address(host, self.address.port)}"

    def share(self) -> Listener:
        """That of one of several processes: at a reserved port a socket of its own, else this one. Raises ListenError.

        The socket of its own does not listen yet. Once it does, the system gives it a share of the port's connections,
        and none once its process has ended, however that was.
        """
        if not self.reserved:
            return replace(self, inode=0)
        host = self.sock.getsockname()[0]
        try:
            return Listener(_bind_tcp(self.sock.family, host, self.address.port), self.address, reserved=True)
        except OSError as error:
            raise _refused(self.address, _reason(self.address, error)) from None

    def unlink(self) -> None:
        """Remove the file of a UNIX socket, unless another server has put its own there."""
        with contextlib.suppress(OSError):
            file = Path(self.address.path)
            if self.address.path and file.stat().st_ino == self.inode:
                file.unlink()


def parse_address(text: str) -> Address:
    """Read an address; raises ValueError that says what is wrong. ':9000' means every IPv4 interface."""
    if text == "systemd":
        return Address(systemd=True)
    if text.startswith("unix:"):
        path = text[5:]
        if path.startswith("//"):
            path = path[2:]
        if not path:
            raise ValueError(f"{text!r}: a path must follow 'unix:'")
        return Address(path=str(Path(path).absolute()))
    host, colon, port = text.removeprefix("http://").removeprefix("https://").removesuffix("/").rpartition(":")
    if not colon or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ValueError(f"{text!r} is not an address: host:port, [IPv6]:port, unix:/path or systemd is needed")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r}: an IPv6 address goes in brackets, as in [{host}]:{port}")
    return Address(host or "0.0.0.0", int(port))


def listen(address: Address, *, socket_mode: int | None = None) -> list[Listener]:
    """Bind and listen: one socket for each address that a host name stands for, all on one port.

    ``socket_mode``: permissions of a UNIX socket's file (None: as the umask says). Raises ListenError, and
    ActivationError for systemd's sockets.
    """
    if address.systemd:
        return [_activated(sock) for sock in activated_sockets()]
    if address.path:
        return [_listen_unix(address, socket_mode)]
    return _at_each_host(address, _listen_tcp)


def reserve(address: Address, *, socket_mode: int | None = None) -> list[Listener]:
    """What several processes ``share``: TCP ports are taken, so that nobody else gets them, but nothing listens on them
    yet; the others are as ``listen`` makes them. Raises as ``listen``.
    """
    if address.systemd or address.path:
        return listen(address, socket_mode=socket_mode)
    # A server that is there already might be willing to share its port.
    found = _at_each_host(address, _listen_tcp)
    address = Address(address.host, found[0].address.port)
    for listener in found:
        listener.sock.close()
    return [replace(listener, reserved=True) for listener in _at_each_host(address, _reserve_tcp)]


def _activated(sock: socket.socket) -> Listener:
    name = sock.getsockname()
    if sock.family == socket.AF_UNIX:
        return Listener(sock, Address(path=os.fsdecode(name)))
    return Listener(sock, Address(name[0], name[1]))


def _at_each_host(address: Address, take: Callable[[int, str, int], socket.socket]) -> list[Listener]:
    kind = socket.SOCK_STREAM
    try:
        found = socket.getaddrinfo(address.host, address.port, type=kind, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise _refused(address, f"unknown host ({error.strerror})") from None
    listeners: list[Listener] = []
    failure: OSError | None = None
    port = address.port
    for family, host in dict.fromkeys((info[0], str(info[4][0])) for info in found):
        try:
            sock = take(family, host, port)
        except OSError as error:
            if error.errno == errno.EADDRINUSE or failure is None:
                failure = error
            continue
        port = sock.getsockname()[1]
        listeners.append(Listener(sock, Address(address.host, port)))
    # A name's second address may be of a family that this machine lacks, but a taken port is always an error.
    if failure is not None and (not listeners or failure.errno == errno.EADDRINUSE):
        for listener in listeners:
            listener.sock.close()
        raise _refused(address, _reason(address, failure)) from None
    return listeners


def _listen_tcp(family: int, host: str, port: int) -> socket.socket:
    return socket.create_server((host, port), family=family, backlog=BACKLOG, dualstack_ipv6=_both(host))


def _reserve_tcp(family: int, host: str, port: int) -> socket.socket:
    try:
        return _bind_tcp(family, host, port, over_old=False)
    except OSError:
        # Connections of a server that was here before are still being forgotten.
        return _bind_tcp(family, host, port)


def _bind_tcp(family: int, host: str, port: int, *, over_old: bool = True) -> socket.socket:
    """Bound to a port that others of this user may be bound to as well, if they say so, too (SO_REUSEPORT).

    ``over_old``: connections of before are no obstacle. Nor are others then, for whom that is so and who do not listen.
    """
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, over_old)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, not _both(host))
        sock.bind((host, port))
    except BaseException:
        sock.close()
        raise
    return sock


def _both(host: str) -> bool:
    """All of IPv6 stands for all of IPv4, too."""
    return host == "::" and socket.has_dualstack_ipv6()


def _listen_unix(address: Address, mode: int | None) -> Listener:
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _remove_stale(address)
        sock.bind(address.path)
        if mode is not None:
            # Nobody can connect before the next line.
            Path(address.path).chmod(mode)
        sock.listen(BACKLOG)
        return Listener(sock, address, Path(address.path).stat().st_ino)
    except OSError as error:
        sock.close()
        if isinstance(error, ListenError):
            raise
        raise _refused(address, _reason(address, error)) from None


def _remove_stale(address: Address) -> None:
    """Remove a socket file whose server is gone; raises ListenError when it is not, or is no socket."""
    file = Path(address.path)
    try:
        if not stat.S_ISSOCK(file.stat().st_mode):
            raise _refused(address, "the file exists and is not a socket")
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(address.path)
        except ConnectionRefusedError:
            file.unlink()
        else:
            raise OSError(errno.EADDRINUSE, "in use")


def _reason(address: Address, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use; stop the other server"
    if error.errno == errno.EACCES and not address.path:
        return "not permitted (ports below 1024 are the system's)"
    # Not strerror: socket.create_server adds the address to it, in its own words.
    return os.strerror(error.errno) if error.errno else str(error)


def _refused(address: Address, reason: str) -> ListenError:
    advice = "" if address.path else ", or port 0 for any free port"
    return ListenError(f"cannot listen on {address}: {reason}; choose another address with --listen{advice}")
