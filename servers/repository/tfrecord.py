"""Records of a TFRecord file: https://www.tensorflow.org/tutorials/load_data/tfrecord#tfrecords_format_details."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from math import isqrt
from pathlib import Path

import numpy as np

from tensorwire.servers.model import Array, ModelError

__all__ = ["LARGEST_RECORD", "crc32c", "read_records"]

LARGEST_RECORD = 1 << 30
"""Bytes of one record; protobuf takes at most twice that."""

_POLYNOMIAL = 0x82F63B78  # Castagnoli's, bits reversed: https://www.rfc-editor.org/rfc/rfc3720#appendix-B.4
_ALL = 0xFFFFFFFF
_FEW = 256  # bytes that are not worth lanes


def read_records(path: Path) -> Iterator[bytes]:
    """The records, one at a time (copy). Raises ModelError for what is damaged or cut short, OSError."""
    with path.open("rb") as file:
        nbytes = os.fstat(file.fileno()).st_size
        number = 0
        while head := file.read(12):
            number += 1
            where = f"{path}: record {number}"
            if len(head) < 12:
                raise ModelError(f"{where}: cut short: {len(head)} bytes are left of its 12-byte head")
            length, crc = struct.unpack("<QI", head)
            if _masked(head[:8]) != crc:
                raise ModelError(f"{where}: its length is damaged (CRC-32C), or this is no TFRecord file")
            left = nbytes - file.tell()
            if length > LARGEST_RECORD:
                raise ModelError(f"{where}: {length:,} bytes are over the limit of {LARGEST_RECORD:,}")
            if left < 4 or length > left - 4:
                raise ModelError(f"{where}: cut short: {length:,} bytes and a CRC are announced, {left:,} bytes left")
            data, tail = file.read(length), file.read(4)
            if tail != struct.pack("<I", _masked(data)):
                raise ModelError(f"{where}: its data are damaged (CRC-32C)")
            yield data


def _masked(data: bytes) -> int:
    """The CRC as a TFRecord has it."""
    crc = crc32c(data)
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & _ALL


def crc32c(data: bytes) -> int:
    """The CRC-32C of RFC 3720.

    A long text is cut into lanes, whose remainders grow together, a byte of each at a time. A remainder is linear in
    its start: what the 32 single bits become over a lane of zeros says how to move any remainder past a lane.
    """
    array = np.frombuffer(data, np.uint8)
    lanes = isqrt(array.size) if array.size >= _FEW else 0
    crc, done = _ALL, 0
    if lanes:
        width = array.size // lanes
        done = lanes * width
        columns = np.zeros((width, lanes + 32), np.uint8)
        columns[:, :lanes] = array[:done].reshape(lanes, width).T
        state = np.zeros(lanes + 32, np.uint32)
        state[0] = crc
        state[lanes:] = np.left_shift(np.uint32(1), np.arange(32, dtype=np.uint32))
        for column in columns:
            state = _TABLE[(state ^ column) & 0xFF] ^ (state >> 8)
        moved = [int(each) for each in state[lanes:]]
        crc = int(state[0])
        for lane in state[1:lanes].tolist():
            crc = _product(crc, moved) ^ lane
    for byte in data[done:]:
        crc = _ROWS[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ _ALL


def _product(bits: int, matrix: list[int]) -> int:
    """A vector of 32 bits times a matrix over GF(2)."""
    found = 0
    for row in matrix:
        if bits & 1:
            found ^= row
        bits >>= 1
    return found


def _table() -> Array:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, table >> 1 ^ np.uint32(_POLYNOMIAL), table >> 1)
    return table


_TABLE = _table()
_ROWS: list[int] = _TABLE.tolist()
