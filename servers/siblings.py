"""The workers of one server, which ask each other how they are.

Each worker has an inbox, a datagram socket that the parent makes before it forks. A question comes there with one end
of a fresh pair of sockets, on which the answer goes back as a stream. So nothing has a name that others could reach,
the parent has no part in it, and a worker that was replaced answers at the inbox of the one before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import orjson

__all__ = ["Siblings"]

_PATIENCE = 1.0  # seconds in which a worker answers; one that is frozen, or is being replaced, does not
_LONGEST = 64  # bytes of a question
_PIECE = 1 << 18


class Siblings:
    """``count`` workers; ``number`` is this one's, ``parent`` the process that looks after them. ``answers``: what each
    question is answered by, with JSON values. Made in the parent; all else on the event loop's thread of a worker.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self.number = 0
        self.parent = os.getpid()
        self.answers: dict[str, Callable[[], Any]] = {}
        self._boxes = [socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in range(count)]
        self._sending: set[asyncio.Task[None]] = set()
        for sockets in self._boxes:
            for sock in sockets:
                sock.setblocking(False)

    def join(self) -> None:
        """Answer as this worker from now on."""
        asyncio.get_running_loop().add_reader(self._inbox, self._on_question)

    def leave(self) -> None:
        """Answer no more."""
        asyncio.get_running_loop().remove_reader(self._inbox)

    def close(self) -> None:
        """In the parent: no worker is left."""
        for sockets in self._boxes:
            for sock in sockets:
                sock.close()

    async def ask(self, question: str) -> dict[int, Any]:
        """What each worker answers, by its number, this one's own among them; those that do not answer are left out."""
        found = await asyncio.gather(*[self._ask(number, question) for number in range(self.count)])
        return {number: answer for number, answer in enumerate(found) if answer is not None}

    @property
    def _inbox(self) -> socket.socket:
        return self._boxes[self.number][0]

    async def _ask(self, number: int, question: str) -> Any:
        if number == self.number:
            return self.answers[question]()
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours:
            ours.setblocking(False)
            with theirs:
                try:
                    socket.send_fds(self._boxes[number][1], [question.encode()], [theirs.fileno()])
                except OSError:  # nobody takes questions out of that inbox
                    return None
            answer = bytearray()
            try:
                async with asyncio.timeout(_PATIENCE):
                    while piece := await loop.sock_recv(ours, _PIECE):
                        answer += piece
                return orjson.loads(answer)
            except (OSError, TimeoutError, orjson.JSONDecodeError):  # it has ended meanwhile
                return None

    def _on_question(self) -> None:
        try:
            question, descriptors, _, _ = socket.recv_fds(self._inbox, _LONGEST, 1)
        except OSError:
            return
        for descriptor in descriptors:
            reply = self.answers.get(question.decode())
            if reply is None:
                os.close(descriptor)
                continue
            task = asyncio.ensure_future(self._send(socket.socket(fileno=descriptor), orjson.dumps(reply())))
            self._sending.add(task)
            task.add_done_callback(self._sending.discard)

    async def _send(self, sock: socket.socket, answer: bytes) -> None:
        with sock, contextlib.suppress(OSError, TimeoutError):  # whoever asked waits no longer
            sock.setblocking(False)
            async with asyncio.timeout(_PATIENCE):
                await asyncio.get_running_loop().sock_sendall(sock, answer)
