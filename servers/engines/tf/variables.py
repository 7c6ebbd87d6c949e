"""The files of a SavedModel's variables, held against their index before TensorFlow restores from them.

The index is a table of sorted keys in blocks, as LevelDB has it, uncompressed: a first entry, without a key, says how
many files of data there are, each other one where a tensor lies
(https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/protobuf/tensor_bundle.proto,
https://github.com/google/leveldb/blob/main/doc/table_format.md).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from tensorwire.servers.model import ModelError

__all__ = ["check_variables"]

_FOOTER = 48  # two places of blocks, filled up with zeros, and the magic number
_MAGIC = 0xDB4775248B80FB57
_PREFIX = "variables/variables"


def check_variables(path: Path) -> None:
    """Raises ModelError that names the file which is missing or shorter than the index says. A folder without an index
    may be a model without variables, and an index that cannot be read is left to TensorFlow.
    """
    index = path / f"{_PREFIX}.index"
    if not index.is_file():
        if any((path / "variables").glob("variables.data-*")):
            raise ModelError(f"{path}: its variables are missing: no file {index}")
        return
    for name, needed in _files(index):
        data = path / name
        try:
            size = data.stat().st_size
        except OSError:
            raise ModelError(f"{path}: its variables are missing: no file {data}") from None
        if size < needed:
            raise ModelError(f"{path}: its variables are cut short: {data} has {size:,} bytes, {needed:,} are expected")


def _files(index: Path) -> list[tuple[str, int]]:
    """The files of data by their paths in the model's folder, and the bytes that each must have; none: not known."""
    from tensorflow.core.protobuf.tensor_bundle_pb2 import BundleEntryProto, BundleHeaderProto

    needed: dict[int, int] = {}
    try:
        table = index.read_bytes()
        for key, value in _entries(table):
            if not key:
                header = BundleHeaderProto.FromString(value)
                needed = dict.fromkeys(range(header.num_shards), 0)
                continue
            entry = BundleEntryProto.FromString(value)
            if entry.shard_id in needed:
                needed[entry.shard_id] = max(needed[entry.shard_id], entry.offset + entry.size)
    except Exception:  # of any kind: what TensorFlow says of the file is as good
        return []
    count = len(needed)
    return [(f"{_PREFIX}.data-{shard:05d}-of-{count:05d}", nbytes) for shard, nbytes in needed.items()]


def _entries(table: bytes) -> Iterator[tuple[bytes, bytes]]:
    """All keys with their values. Raises ValueError or IndexError for what is no table, or a compressed one."""
    footer = len(table) - _FOOTER
    if footer < 0 or int.from_bytes(table[-8:], "little") != _MAGIC:
        raise ValueError
    _, at = _place(table, footer)
    (start, size), _ = _place(table, at)
    for _, place in _block(table, start, size):
        (start, size), _ = _place(place, 0)
        yield from _block(table, start, size)


def _block(table: bytes, start: int, size: int) -> Iterator[tuple[bytes, bytes]]:
    """Entries of a block. A key is what it shares with the one before, by number, and the rest of it."""
    end = start + size
    if end >= len(table) or size < 4 or table[end]:  # the byte after it says how it is compressed
        raise ValueError
    (restarts,) = struct.unpack_from("<I", table, end - 4)
    end -= 4 + 4 * restarts
    at, key = start, b""
    while at < end:
        shared, at = _number(table, at)
        rest, at = _number(table, at)
        length, at = _number(table, at)
        key = key[:shared] + table[at : at + rest]
        at += rest
        yield key, table[at : at + length]
        at += length


def _place(data: bytes, at: int) -> tuple[tuple[int, int], int]:
    start, at = _number(data, at)
    size, at = _number(data, at)
    return (start, size), at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """A varint: seven bits a byte, the least first."""
    value = shift = 0
    while data[at] & 0x80:
        value |= (data[at] & 0x7F) << shift
        shift, at = shift + 7, at + 1
    return value | data[at] << shift, at + 1
