"""Looking for an answer before sleeping: what has come is taken, and a slow server is soon left in peace."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import pytest

import tensorwire as tw
from tensorwire._spin import Spin

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def blind_spell(spin: Spin, ours: socket.socket, theirs: socket.socket) -> int:
    """How many answers are not looked for although they are there."""
    theirs.sendall(b"x")
    room, spell = tw.Chunk(8), 0
    while spin.receive_into(ours.fileno(), room) is None:
        spell += 1
    return spell


def miss(spin: Spin, ours: socket.socket) -> None:
    """Look once in vain, after all that is not looked for."""
    assert spin.receive_into(ours.fileno(), tw.Chunk(8)) is None


def test_what_is_there_is_taken(pair: Pair) -> None:
    ours, theirs = pair
    theirs.sendall(b"abc")
    room = tw.Chunk(2)
    spin = Spin()
    assert spin.receive_into(ours.fileno(), room) == 2
    assert bytes(room) == b"ab"
    assert spin.receive_into(ours.fileno(), room) == 1
    assert bytes(room) == b"cb"


def test_misses_in_a_row_are_looked_for_ever_more_rarely(pair: Pair) -> None:
    ours, theirs = pair
    for misses in range(1, 11):
        spin = Spin()
        for number in range(1, misses + 1):
            miss(spin, ours)
            if number < misses:
                for _ in range(2 ** min(number, 8) - 1):
                    miss(spin, ours)
        assert blind_spell(spin, ours, theirs) == 2 ** min(misses, 8) - 1
        # What was found makes up for all of them.
        miss(spin, ours)
        assert blind_spell(spin, ours, theirs) == 1


def test_the_end_is_no_miss(pair: Pair) -> None:
    ours, theirs = pair
    theirs.close()
    spin = Spin()
    assert [spin.receive_into(ours.fileno(), tw.Chunk(8)) for _ in range(3)] == [0, 0, 0]


def test_an_error_is_raised_while_looking() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as ours:
        theirs = server.accept()[0]
        theirs.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("@ii", 1, 0))
        theirs.close()
        with pytest.raises(ConnectionResetError):
            Spin().receive_into(ours.fileno(), tw.Chunk(8))
