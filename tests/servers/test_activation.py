"""Sockets that systemd hands over, and the permissions of UNIX sockets."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import pytest
from processes import Start, first_line
from rawhttp import Raw
from waiting import PATIENCE

from tensorwire.servers.activation import ActivationError, activated_sockets
from tensorwire.servers.address import ListenError
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.engines.echo import EchoModel

# Puts sockets where systemd does, at descriptor 3 and on, and becomes the server.
ACTIVATE = """
import os, socket, sys
tcp = socket.create_server(("127.0.0.1", 0))
unix = socket.socket(socket.AF_UNIX)
unix.bind(sys.argv[1])
unix.listen()
spare = [os.dup(sock.fileno()) for sock in (tcp, unix)]
spare = [os.dup(fd) for fd in spare]
os.dup2(spare[0], 3)
os.dup2(spare[1], 4)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="2")
os.execv(sys.executable, [sys.executable, "-m", "tensorwire", "serve", "--echo", "--listen", "systemd", *sys.argv[2:]])
"""


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sockets_from_systemd(start: Start, tmp_path: Path, workers: str) -> None:
    path = tmp_path / "s"
    process = start("-c", ACTIVATE, str(path), "--workers", workers)
    tcp, unix = first_line(process).split()[2:4]
    assert unix == f"unix://{path}"
    for url in (tcp, unix):
        with Raw(url) as raw:
            assert raw.get("/readyz").status == 200
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert path.exists()  # systemd's, who keeps listening


@pytest.mark.parametrize(("pid", "count"), [(None, None), ("1", "1"), ("me", "0"), ("me", "x")])
def test_nothing_from_systemd(monkeypatch: pytest.MonkeyPatch, pid: str | None, count: str | None) -> None:
    for name, value in (("LISTEN_PID", str(os.getpid()) if pid == "me" else pid), ("LISTEN_FDS", count)):
        if value is None:
            monkeypatch.delenv(name, raising=False)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(ActivationError, match="start the service through its"):
        activated_sockets()
    assert "LISTEN_FDS" not in os.environ


def test_descriptor_that_does_not_listen(start: Start, tmp_path: Path) -> None:
    code = ACTIVATE.replace("unix.listen()", "")
    process = start("-c", code, str(tmp_path / "s"))
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 2
    assert "descriptor 4 is no listening stream socket" in err


@pytest.mark.parametrize("mode", [0o660, 0o600, 0o777])
def test_permissions_of_a_unix_socket(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "s"
    with BackgroundServer(EchoModel(), listen=f"unix:{path}", socket_mode=mode) as server:
        assert stat.S_IMODE(path.stat().st_mode) == mode
        with Raw(server.url) as raw:
            assert raw.get("/").status == 200


def test_unix_socket_of_a_server_that_died_is_replaced_and_of_a_live_one_refused(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with BackgroundServer(EchoModel(), listen=f"unix:{path}") as server:
        with pytest.raises(ListenError, match="the address is in use"):
            BackgroundServer(EchoModel(), listen=f"unix:{path}", socket_mode=0o660)
        with Raw(server.url) as raw:
            assert raw.get("/").status == 200


def test_all_interfaces_of_ipv6_take_ipv4_as_well() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with BackgroundServer(EchoModel(), listen="[::]:0") as server:
        port = server.url.rpartition(":")[2]
        for url in (f"http://[::1]:{port}", f"http://127.0.0.1:{port}"):
            with Raw(url) as raw:
                assert raw.get("/healthz").status == 200
