"""The lane against a process that says what it must not: an error each time, nothing mapped, no descriptor left."""

from __future__ import annotations

import gc
import os
import socket
import struct
from collections.abc import Iterator

import numpy as np
import pytest
from descriptors import open_descriptors

from tensorwire import Request, Response, encode
from tensorwire.servers.isolation.lane import Breach, Lane
from tensorwire.servers.isolation.memory import Block, attach, create
from tensorwire.servers.isolation.packets import Packet, receive, receive_parts, send, send_parts

LARGE = np.arange(1 << 16, dtype=np.float64)
ANSWER = encode(Response({"y": LARGE}))
SMALL = encode(Response({"y": LARGE[:4]}))


class Peer:
    """The other end of a lane, whose answers are put there before they are asked for."""

    def __init__(self) -> None:
        ours, self.sock = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.lane = Lane(ours, 1 << 30)
        self.blocks: list[Block] = []

    def say(self, packet: Packet) -> None:
        send(self.sock, packet)

    def block(self, nbytes: int = ANSWER.nbytes) -> tuple[Block, int]:
        block, fd = create(len(self.blocks) + 1, nbytes)
        self.blocks.append(block)
        return block, fd

    def answer(self, frame: object = ANSWER, numbers: tuple[int, ...] = ()) -> None:
        """A right answer, in a new block."""
        block, fd = self.block(frame.nbytes)  # type: ignore[attr-defined]
        nbytes = frame.write_into(block.map)  # type: ignore[attr-defined]
        self.say(Packet(nbytes, block.size, block.number, 0, numbers, fd))
        os.close(fd)

    def call(self) -> Response:
        return self.lane.call(encode(Request({"x": LARGE})), 5.0)[0]

    def breach(self) -> str:
        with pytest.raises(Breach) as caught:
            self.call()
        return str(caught.value)


@pytest.fixture
def peer() -> Iterator[Peer]:
    gc.collect()
    before = open_descriptors()
    peer = Peer()
    yield peer
    peer.lane.close()
    peer.sock.close()
    peer.blocks.clear()
    del peer.lane
    gc.collect()  # a caught error refers to its frames, and they to it
    assert open_descriptors() == before


def test_a_right_answer_comes_through(peer: Peer) -> None:
    peer.answer()
    np.testing.assert_array_equal(peer.call().outputs["y"], LARGE)
    asked = receive(peer.sock)
    assert asked is not None
    block = attach(asked.number, asked.size, asked.fd, writable=False)
    assert bytes(block.map[: asked.nbytes]) == bytes(encode(Request({"x": LARGE})))


def test_numbers_of_blocks_that_are_free_again_go_along(peer: Peer) -> None:
    for frame in (ANSWER, ANSWER, SMALL):
        peer.answer(frame)
    first, second = peer.call(), peer.call()
    del first
    peer.call()
    peer.answer()
    peer.call()
    told = []
    for _ in range(4):
        packet = receive(peer.sock)
        assert packet is not None
        told.append(list(packet.numbers))
        if packet.fd >= 0:
            os.close(packet.fd)
    assert told == [[], [], [1], [3]]
    del second


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"x", "a packet of 1 bytes and 0 descriptors came"),
        (b"x" * 24, "a packet of 24 bytes"),
        (struct.pack("<QQIHH", 1, 1, 1, 0, 500), "tells of 500 blocks"),
        (b"x" * 100_000, "a packet of 4024 bytes"),
        (struct.pack("<QQIHH", 10, 100, 7, 0, 0), "the answer is in block 7, which never came"),
    ],
)
def test_packets_that_are_none(peer: Peer, data: bytes, text: str) -> None:
    peer.sock.send(data)
    assert text in peer.breach()


def test_more_descriptors_than_one(peer: Peer) -> None:
    block, fd = peer.block()
    data = struct.pack("<QQIHH", 10, block.size, 1, 0, 0)
    socket.send_fds(peer.sock, [data], [fd, fd, fd])
    os.close(fd)
    assert "descriptors came" in peer.breach()


@pytest.mark.parametrize("told", [0, 1, 1 << 40])
def test_a_block_of_another_size(peer: Peer, told: int) -> None:
    block, fd = peer.block()
    peer.say(Packet(10, told, 1, 0, (), fd))
    os.close(fd)
    assert peer.breach() == f"a block of {block.size} bytes came, {told} were told"


def test_a_block_that_could_shrink_would_be_a_trap(peer: Peer) -> None:
    fd = os.memfd_create("trap", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 1 << 20)
    peer.say(Packet(10, 1 << 20, 1, 0, (), fd))
    os.close(fd)
    assert peer.breach() == "a block came whose size is not sealed"


def test_what_is_no_memory(peer: Peer) -> None:
    read, write = os.pipe()
    peer.say(Packet(10, 1 << 20, 1, 0, (), read))
    os.close(read)
    os.close(write)
    assert "a block of 0 bytes came" in peer.breach()


def test_an_answer_longer_than_its_block(peer: Peer) -> None:
    block, fd = peer.block()
    peer.say(Packet(block.size + 1, block.size, 1, 0, (), fd))
    os.close(fd)
    assert peer.breach() == f"the answer has {block.size + 1} bytes, its block {block.size}"


def test_a_block_that_is_still_read(peer: Peer) -> None:
    peer.answer()
    held = peer.call()
    peer.say(Packet(ANSWER.nbytes, peer.blocks[0].size, 1, 0, (), -1))
    assert peer.breach() == "the answer is in block 1, which is still read"
    np.testing.assert_array_equal(held.outputs["y"], LARGE)


def test_ever_more_blocks(peer: Peer) -> None:
    for _ in range(64):
        peer.answer(SMALL)
        peer.call()
    peer.answer(SMALL)
    assert peer.breach() == "more than 64 blocks came"


def test_blocks_that_are_given_up_are_forgotten(peer: Peer) -> None:
    peer.answer()
    held = peer.call()
    peer.answer(SMALL, (1,))
    peer.call()
    peer.say(Packet(10, 100, 1, 0, (), -1))
    assert peer.breach() in (
        "the answer is in block 1, which never came",
        "the answer is in block 1, which is still read",
    )
    np.testing.assert_array_equal(held.outputs["y"], LARGE)


@pytest.mark.parametrize("content", [b"", b"\xff" * 1000, bytes(encode(Request({"x": LARGE})))])
def test_an_answer_that_is_none(peer: Peer, content: bytes) -> None:
    block, fd = peer.block()
    block.map[: len(content)] = content
    peer.say(Packet(len(content), block.size, 1, 0, (), fd))
    os.close(fd)
    with pytest.raises(Breach):
        peer.call()


def test_silence_and_the_end(peer: Peer) -> None:
    with pytest.raises(TimeoutError):
        peer.lane.call(SMALL, 0.01)
    peer.sock.shutdown(socket.SHUT_RDWR)
    with pytest.raises((EOFError, OSError)):
        peer.lane.call(SMALL, 5.0)


def test_what_is_said_at_the_start_is_bounded() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        send_parts(theirs, [b"one", b"", b"three" * 10_000])
        assert receive_parts(ours) == [b"one", b"", b"three" * 10_000]
        theirs.sendall(struct.pack("<I", 1 << 30))
        with pytest.raises(ValueError, match="1073741824 parts"):
            receive_parts(ours)
        theirs.sendall(struct.pack("<II", 1, 1 << 31))
        with pytest.raises(ValueError, match="a part of 2147483648 bytes"):
            receive_parts(ours)
        theirs.sendall(struct.pack("<II", 1, 10) + b"short")
        theirs.close()
        with pytest.raises(EOFError):
            receive_parts(ours)
