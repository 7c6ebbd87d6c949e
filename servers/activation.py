"""Sockets that systemd has opened for this process (man 3 sd_listen_fds)."""

from __future__ import annotations

import os
import socket

from tensorwire.errors import TensorwireError

__all__ = ["ActivationError", "activated_sockets"]

_FIRST = 3


class ActivationError(TensorwireError, OSError):
    """systemd has handed over no sockets that can be served."""


def activated_sockets() -> list[socket.socket]:
    """The listening sockets handed over in LISTEN_FDS; once, since the variables are removed.

    Raises ActivationError when there are none for this process.
    """
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "")
    os.environ.pop("LISTEN_FDNAMES", None)
    if not count.isdigit() or not int(count) or pid != str(os.getpid()):
        raise ActivationError(
            "cannot listen on systemd: it has handed no socket to this process (LISTEN_FDS, LISTEN_PID); "
            "start the service through its .socket unit"
        )
    found: list[socket.socket] = []
    for fd in range(_FIRST, _FIRST + int(count)):
        os.set_inheritable(fd, False)
        try:
            sock = socket.socket(fileno=fd)
            usable = sock.type == socket.SOCK_STREAM and sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        except OSError:
            usable = 0
        if not usable:
            raise ActivationError(f"cannot listen on systemd: descriptor {fd} is no listening stream socket")
        found.append(sock)
    return found
