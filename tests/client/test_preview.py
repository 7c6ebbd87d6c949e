"""preview: where payloads will be, guessed from the first bytes of a message, whatever these are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tensorwire as tw
from tensorwire._preview import preview

OUTPUTS = [np.zeros((30, 1000), np.float32), np.ones(5), np.zeros((7, 0)), np.full(2000, 3)]
MESSAGE = bytes(tw.encode(tw.Response(dict(zip("abcd", OUTPUTS, strict=True)))))


@pytest.mark.parametrize("outputs", [OUTPUTS, dict(zip("abcd", OUTPUTS, strict=True)), OUTPUTS[:1], []])
def test_the_guess_is_what_decode_finds(outputs: Any) -> None:
    data = bytes(tw.encode(tw.Response(outputs)))
    decoded = tw.decode(data, tw.Response).outputs
    base = np.frombuffer(data, np.uint8).ctypes.data
    guessed = preview(memoryview(data)[:4096])
    assert [guess.name for guess in guessed] == list(decoded.names or [""] * len(decoded))
    for guess, array in zip(guessed, decoded.arrays, strict=True):
        assert guess.shape == array.shape
        if array.size:
            assert guess.offset == array.ctypes.data - base


@given(st.binary(max_size=200))
def test_any_bytes(data: bytes) -> None:
    assert isinstance(preview(memoryview(data)), list)


@given(st.integers(0, 600), st.integers(0, 599), st.integers(0, 255))
def test_any_damage(length: int, at: int, value: int) -> None:
    data = bytearray(MESSAGE[:length])
    if at < length:
        data[at] = value
    assert isinstance(preview(memoryview(data)), list)
