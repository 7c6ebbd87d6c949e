"""A peer that has closed its sending side gets the answers to all that it has sent whole, on both event loops."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import numpy as np
import pytest
from bare_server import Echo, Peer, Scenario, post

import tensorwire as tw


def test_a_half_closed_peer_gets_its_answer(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post())
        peer.writer.write_eof()
        await peer.until(lambda: peer.handler.waiting)
        await asyncio.sleep(0.02)
        peer.handler.answer(peer.handler.waiting.pop())
        assert (await peer.answer())[0] == 200
        assert await peer.ended()

    play(scenario)


@pytest.mark.parametrize("held", [True, False])
def test_a_half_closed_peer_gets_all_its_answers(play: Callable[[Scenario], Echo], held: bool) -> None:
    """Those of whole requests, in order, however much of another one follows."""

    async def scenario(peer: Peer) -> None:
        peer.handler.hold = held
        bodies = [bytes(tw.encode(tw.Request({"x": np.full(10, i)}))) for i in range(30)]  # more than a head buffer
        await peer.send(b"".join(map(post, bodies)) + post()[:-5])
        peer.writer.write_eof()
        for i in range(30):
            if held:
                await peer.until(lambda: peer.handler.waiting)
                await asyncio.sleep(0.005)
                peer.handler.answer(peer.handler.waiting.pop())
            assert tw.decode((await peer.answer())[2], tw.Response).outputs["x"].tolist() == [i] * 10
        assert await peer.ended()

    assert play(scenario).log == [200] * 30


def test_what_a_half_closed_peer_sent_last_may_be_refused(play: Callable[[Scenario], Echo]) -> None:
    async def scenario(peer: Peer) -> None:
        peer.handler.hold = True
        await peer.send(post() + b"rubbish\r\n\r\n")
        peer.writer.write_eof()
        await peer.until(lambda: peer.handler.waiting)
        await asyncio.sleep(0.02)
        peer.handler.answer(peer.handler.waiting.pop())
        assert (await peer.answer())[0] == 200
        assert (await peer.error())[0] == 400
        assert await peer.ended()

    play(scenario)
