"""Puts a flatbuffer together piece by piece, wrong ones too.

Pieces stand in the order in which they are added, with no padding that was not asked for. An offset names the
piece it leads to and is filled in at the end, or is a number and stays as it is.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field

Target = str | int
"""A piece's name, or the bare value of the offset."""


@dataclass(frozen=True)
class U8:
    value: int


@dataclass(frozen=True)
class I64:
    value: int


@dataclass(frozen=True)
class To:
    """An offset, as a field of a table."""

    target: Target


Field = U8 | I64 | To | None
SIZES = {U8: 1, I64: 8, To: 4}


@dataclass
class Assembler:
    buf: bytearray = field(default_factory=bytearray)
    places: dict[str, int] = field(default_factory=dict)
    """Where each named piece starts: tables at their first four bytes, vectors at their length."""
    _sites: list[tuple[int, str]] = field(default_factory=list)

    def mark(self, name: str) -> None:
        """Give the next piece a name, besides any that it has."""
        self.places[name] = len(self.buf)

    def raw(self, data: bytes) -> None:
        self.buf += data

    def pad(self, to: int, ahead: int = 0) -> None:
        """Zeros, until `ahead` bytes further on there is a multiple of `to`."""
        self.buf += bytes(-(len(self.buf) + ahead) % to)

    def offset(self, target: Target) -> None:
        if isinstance(target, str):
            self._sites.append((len(self.buf), target))
            target = 0
        self.buf += struct.pack("<I", target)

    def table(
        self,
        name: str,
        *fields: Field,
        vtable: bytes | None = None,
        distance: int | None = None,
        size: int | None = None,
    ) -> None:
        """A table behind its vtable, fields in slot order (None: absent) and unaligned.

        `vtable`, the `distance` from the table back to it, and the table's `size` replace the right ones.
        """
        slots: list[int] = []
        end = 4
        for each in fields:
            slots.append(0 if each is None else end)
            end += SIZES[type(each)] if each else 0
        if vtable is None:
            vtable = struct.pack(f"<{2 + len(slots)}H", 4 + 2 * len(slots), size or end, *slots)
        self.mark(f"{name}_vtable")
        self.raw(vtable)
        self.mark(name)
        self.raw(struct.pack("<i", len(vtable) if distance is None else distance))
        for each in fields:
            if isinstance(each, To):
                self.offset(each.target)
            elif each:
                self.raw(struct.pack("<B" if isinstance(each, U8) else "<q", each.value))

    def offsets(self, name: str, *targets: Target, count: int | None = None) -> None:
        """A vector of offsets, which says that it has `count`."""
        self.mark(name)
        self.raw(struct.pack("<I", len(targets) if count is None else count))
        for target in targets:
            self.offset(target)

    def longs(self, name: str, *values: int, count: int | None = None) -> None:
        """A vector of int64."""
        self.mark(name)
        self.raw(struct.pack(f"<I{len(values)}q", len(values) if count is None else count, *values))

    def bytes(self, name: str, data: bytes, count: int | None = None) -> None:
        """A vector of bytes, or a string without the NUL behind it."""
        self.mark(name)
        self.raw(struct.pack("<I", len(data) if count is None else count) + data)

    def tell(self, text: str) -> str:
        """Put numbers for "@name" and "@name+4", the place of a piece or so far behind it, and "@end"."""

        def place(match: re.Match[str]) -> str:
            name, _, more = match[1].partition("+")
            return str(len(self.buf) if name == "end" else self.places[name] + int(more or 0))

        return re.sub(r"@([a-z_]+(?:\+\d+)?)", place, text)

    def done(self) -> bytes:
        out = bytearray(self.buf)
        for site, target in self._sites:
            struct.pack_into("<I", out, site, (self.places[target] - site) & 0xFFFFFFFF)
        return bytes(out)


def request(*fields: Field) -> Assembler:
    """A message up to and including the table InferRequest, named "req"."""
    message = Assembler()
    message.offset("root")
    message.table("root", U8(1), To("req"))
    message.table("req", *fields)
    return message


def one_tensor(*fields: Field, count: int | None = None) -> Assembler:
    """A request of one unnamed tensor, up to and including its table, named "tensor"."""
    message = request(None, None, To("tensors"))
    message.offsets("tensors", "tensor", count=count)
    message.table("tensor", *fields)
    return message


def numeric(wire: int, shape: list[int], data: bytes) -> Assembler:
    """A whole request of one unnamed tensor."""
    message = one_tensor(U8(wire), To("shape"), To("data"))
    message.longs("shape", *shape)
    message.bytes("data", data)
    return message
