"""The model's side of one call at a time: a request out of shared memory, the model, the answer into shared memory."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterable

from tensorwire._decode import decode
from tensorwire._encode import encode
from tensorwire._frame import Frame
from tensorwire._messages import Request, Response, Status
from tensorwire.servers.check import Check
from tensorwire.servers.isolation.memory import Block, attach, create
from tensorwire.servers.isolation.packets import FAILED, KEPT, MOST_NUMBERS, Packet, receive, send
from tensorwire.servers.model import Model, ModelFailure, RequestError, failure_text

__all__ = ["Calls"]

_log = logging.getLogger(__name__)

_MOST_IDLE = 8  # blocks
_MOST_IDLE_BYTES = 256 << 20


class Calls:
    """Answers what comes over a connected SOCK_SEQPACKET socket with what the model gives."""

    def __init__(self, model: Model, sock: socket.socket) -> None:
        self._model = model
        self._sock = sock
        self._checks = {name: Check(signature, exact=model.exact) for name, signature in model.signatures.items()}
        self._block: Block | None = None
        self._made = 0
        self._idle: dict[int, Block] = {}  # oldest first
        self._lent: dict[int, Block] = {}
        self._dropped: list[int] = []  # blocks that were given up, and the server has not been told of

    def serve(self) -> None:
        """Answer calls until the other side closes."""
        while (packet := receive(self._sock)) is not None:
            self._take_back(packet.numbers)
            if packet.fd >= 0:
                self._block = attach(packet.number, packet.size, packet.fd, writable=True)
            self._send(*self._answer(packet.nbytes))

    def _answer(self, nbytes: int) -> tuple[Block, int, int, int]:
        """Run one call: the answer's block, its descriptor (-1: not new), the answer's size, and flags."""
        assert self._block is not None
        view = memoryview(self._block.map)[:nbytes]
        frame, flags = self._run(view)
        try:
            block, fd = self._room(frame.nbytes)
        except OSError as error:
            frame, flags = _error(500, f"no shared memory for an answer of {frame.nbytes:,} bytes: {error}"), FAILED
            block, fd = self._room(frame.nbytes)
        size = frame.write_into(block.map)
        del frame  # it may refer to the inputs
        try:
            view.release()
        except BufferError:
            # Some array over this memory is still alive. The server takes another block for the next call.
            self._block = None
            flags |= KEPT
        return block, fd, size, flags

    def _run(self, view: memoryview) -> tuple[Frame, int]:
        """The answer as a message, whose arrays may be views of the request's, and the packet's flags."""
        request = decode(view, Request)
        try:
            inputs = dict(zip(request.inputs.names, request.inputs.arrays, strict=True))
            found = self._model.run(request.signature, inputs, request.outputs)
            results = self._checks[request.signature].results(found, request.outputs)
            return encode(Response(results)), 0
        except RequestError as error:
            return _error(error.code, error.message), 0
        except BaseException as error:  # the thread serves other calls after this one
            if not isinstance(error, ModelFailure):
                _log.error("the model failed", exc_info=error)
            return _error(500, failure_text(error)), FAILED

    def _send(self, block: Block, fd: int, nbytes: int, flags: int) -> None:
        dropped, self._dropped = self._dropped[:MOST_NUMBERS], self._dropped[MOST_NUMBERS:]
        try:
            send(self._sock, Packet(nbytes, block.size, block.number, flags, dropped, fd))
        finally:
            if fd >= 0:
                os.close(fd)

    def _room(self, nbytes: int) -> tuple[Block, int]:
        """A block to answer in, and its descriptor when it is new, else -1. Raises OSError."""
        fd = -1
        fitting = [block for block in self._idle.values() if block.size >= nbytes]
        if fitting:
            block = min(fitting, key=lambda block: block.size)
            del self._idle[block.number]
        else:
            self._trim()
            self._made += 1
            block, fd = create(self._made, nbytes)
        self._lent[block.number] = block
        return block, fd

    def _trim(self) -> None:
        """Give up idle blocks, the oldest first, until they are few and small enough."""
        idle = self._idle
        nbytes = sum([block.size for block in idle.values()])
        for number, block in list(idle.items()):
            if len(idle) < _MOST_IDLE and nbytes <= _MOST_IDLE_BYTES:
                break
            nbytes -= block.size
            del idle[number]
            self._dropped.append(number)

    def _take_back(self, numbers: Iterable[int]) -> None:
        for number in numbers:
            self._idle[number] = self._lent.pop(number)


def _error(code: int, message: str) -> Frame:
    return encode(Response(errors=[Status(code, message.encode("utf-8", "replace").decode())]))
