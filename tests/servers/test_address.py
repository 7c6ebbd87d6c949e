"""Addresses as text, and sockets bound to them."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tensorwire.servers.address import Address, Listener, ListenError, listen, parse_address, reserve


def close(listeners: list[Listener]) -> None:
    for listener in listeners:
        listener.sock.close()


@pytest.mark.parametrize(
    ("text", "address", "again"),
    [
        ("127.0.0.1:9000", Address("127.0.0.1", 9000), "127.0.0.1:9000"),
        ("localhost:0", Address("localhost", 0), "localhost:0"),
        (":80", Address("0.0.0.0", 80), "0.0.0.0:80"),
        ("[::1]:65535", Address("::1", 65535), "[::1]:65535"),
        ("http://127.0.0.1:9000/", Address("127.0.0.1", 9000), "127.0.0.1:9000"),
        ("unix:/run/a b.sock", Address(path="/run/a b.sock"), "unix:/run/a b.sock"),
        ("unix:///run/s", Address(path="/run/s"), "unix:/run/s"),
    ],
)
def test_addresses(text: str, address: Address, again: str) -> None:
    assert parse_address(text) == address
    assert str(address) == again


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "host:port"),
        ("localhost", "host:port"),
        ("localhost:", "host:port"),
        ("localhost:x", "host:port"),
        ("localhost:-1", "host:port"),
        ("localhost:65536", "host:port"),
        ("::1:9000", r"\[::1\]:9000"),
        ("unix:", "a path must follow"),
    ],
)
def test_text_that_is_no_address(text: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        parse_address(text)


def test_relative_unix_path_becomes_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert parse_address("unix:s.sock").path == str(tmp_path / "s.sock")


def test_port_0_is_given_a_number_and_all_interfaces_a_name_to_reach_them_by() -> None:
    (listener,) = listen(Address("0.0.0.0", 0))
    port = listener.sock.getsockname()[1]
    close([listener])
    assert listener.address.port == port > 0
    assert listener.url() == f"http://127.0.0.1:{port}"


def test_every_address_of_a_name_gets_the_same_port() -> None:
    listeners = listen(Address("localhost", 0))
    ports = {listener.sock.getsockname()[1] for listener in listeners}
    close(listeners)
    assert len(ports) == 1


def test_port_in_use() -> None:
    (first,) = listen(Address("127.0.0.1", 0))
    with pytest.raises(ListenError) as caught:
        listen(first.address)
    close([first])
    text = str(caught.value)
    assert text.startswith(f"cannot listen on 127.0.0.1:{first.address.port}: the address is in use")
    assert "--listen" in text
    assert isinstance(caught.value, OSError)


def test_address_of_another_machine() -> None:
    with pytest.raises(ListenError, match=r"cannot listen on 192\.0\.2\.1:0: .*--listen"):
        listen(Address("192.0.2.1", 0))


def test_unknown_host() -> None:
    with pytest.raises(ListenError, match="unknown host"):
        listen(Address("no-such-host.invalid", 0))


def test_unix_socket_in_use_is_not_taken_away(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    (listener,) = listen(address)
    with pytest.raises(ListenError, match="in use"):
        listen(address)
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(address.path)
    close([listener])


def test_unix_socket_that_a_dead_server_left_is_replaced(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    close(listen(address))
    assert Path(address.path).exists()
    listeners = listen(address)
    close(listeners)
    listeners[0].unlink()
    assert not Path(address.path).exists()


def test_unix_socket_of_a_successor_is_left_alone(tmp_path: Path) -> None:
    address = Address(path=str(tmp_path / "s"))
    (first,) = listen(address)
    Path(address.path).rename(tmp_path / "old")
    (second,) = listen(address)
    first.unlink()
    assert Path(address.path).exists()
    close([first, second])


def test_other_files_are_not_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("keep")
    with pytest.raises(ListenError, match="not a socket"):
        listen(Address(path=str(file)))
    assert file.read_text() == "keep"


def test_unix_path_without_a_folder(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory"):
        listen(Address(path=str(tmp_path / "no" / "s")))


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1", "::"])
def test_a_reserved_port_is_shared_by_those_who_listen(host: str) -> None:
    try:
        (reserved,) = reserve(Address(host, 0))
    except ListenError:
        pytest.skip("no IPv6 here")
    place = reserved.sock.getsockname()[:2]
    with reserved.sock:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(place, 10)
        with socket.socket(reserved.sock.family) as other, pytest.raises(OSError, match="in use"):
            other.bind(place)
        shares = [reserved.share() for _ in range(2)]
        shares[0].sock.listen(8)
        with pytest.raises(ListenError, match="in use"):
            reserve(Address(host, place[1]))
        for _ in range(20):  # none goes to the one that does not listen
            socket.create_connection(place, 10).close()
            shares[0].sock.accept()[0].close()
        shares[1].sock.listen(8)
        shares[0].sock.close()
        socket.create_connection(place, 10).close()
        shares[1].sock.accept()[0].close()
        close(shares)


def test_connections_of_before_do_not_keep_a_port_from_being_reserved() -> None:
    (before,) = listen(Address("127.0.0.1", 0))
    with socket.create_connection(before.sock.getsockname(), 10) as client:
        accepted = before.sock.accept()[0]
        before.sock.close()
        accepted.close()  # first: its end is the one that waits
        assert client.recv(1) == b""
    reserved = reserve(before.address)
    close([reserved[0].share(), *reserved])
