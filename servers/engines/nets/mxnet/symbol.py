"""An MXNet symbol, the -symbol.json file: nodes, each with an operator, attributes, and the nodes that it reads."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.nets.files import naming, printable
from tensorwire.servers.engines.nets.inputs import read_json
from tensorwire.servers.model import ModelError

__all__ = ["Attributes", "Node", "Source", "Symbol", "read_symbol", "symbol_of"]

Source = tuple[int, int]
"""The number of a node, and which of its outputs."""

_MOST_NODES = 200_000
_TRUE, _FALSE = ("true", "1"), ("false", "0")


@dataclass(frozen=True, slots=True)
class Symbol:
    """``nodes`` in an order in which each comes after those that it reads; ``heads`` are the outputs."""

    nodes: tuple[Node, ...]
    heads: tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class Node:
    """An operator, or a variable (``op`` is 'null'): a weight or an input."""

    number: int
    op: str
    name: str
    attributes: Attributes
    inputs: tuple[Source, ...]

    @property
    def where(self) -> str:
        """'Convolution 'conv0' (node 3)'."""
        return f"{printable(self.op)} {printable(self.name, quote=True)} (node {self.number})"


class Attributes:
    """A node's attributes, which the file has as text. The readers raise ModelError for one of another kind."""

    def __init__(self, found: dict[str, str]) -> None:
        self._found = found

    def __contains__(self, name: str) -> bool:
        return self._found.get(name) not in (None, "None", "")

    def text(self, name: str, default: str = "") -> str:
        return self._found[name] if name in self else default

    def flag(self, name: str, default: bool = False) -> bool:
        if name not in self:
            return default
        text = self._found[name].strip().lower()
        if text not in (*_TRUE, *_FALSE):
            raise self._wrong(name, "True or False")
        return text in _TRUE

    def number(self, name: str, default: float = 0.0) -> float:
        if name not in self:
            return default
        try:
            found = float(self._found[name])
        except ValueError:
            found = math.nan
        if math.isnan(found):
            raise self._wrong(name, "a number")
        return found

    def whole(self, name: str, default: int = 0) -> int:
        if name not in self:
            return default
        found = self.number(name)
        if not found.is_integer() or abs(found) > 2**53:
            raise self._wrong(name, "a whole number")
        return int(found)

    def wholes(self, name: str, default: tuple[int, ...] = ()) -> tuple[int, ...]:
        """'(3, 3)', '[3,3]', '(3L, 3L)' or '3'."""
        if name not in self:
            return default
        text = self._found[name].strip()
        if not re.fullmatch(r"[\[(]?[-+\dL,\s]*[\])]?", text) or len(text) > 1000:
            raise self._wrong(name, "a list of whole numbers")
        try:
            found = ast.literal_eval(text.replace("L", ""))
        except (ValueError, SyntaxError):
            raise self._wrong(name, "a list of whole numbers") from None
        return tuple(found) if isinstance(found, tuple | list) else (found,)

    def _wrong(self, name: str, expected: str) -> ModelError:
        shown = printable(self._found[name], quote=True)
        return ModelError(f"attribute {printable(name)} is {expected}, the file has {shown}")


def read_symbol(path: Path) -> Symbol:
    """Read a symbol of any MXNet version. Raises ModelError: unreadable, not one, nodes that read later ones."""
    found = read_json(path)
    with naming(path):
        return symbol_of(found)


def symbol_of(found: Any) -> Symbol:
    """The same of what is in the JSON. Raises ModelError."""
    if not isinstance(found, dict) or not isinstance(found.get("nodes"), list) or "heads" not in found:
        raise ModelError("not an MXNet symbol: no nodes and heads in it")
    entries = found["nodes"]
    if not 0 < len(entries) <= _MOST_NODES:
        raise ModelError(f"{len(entries)} nodes: a symbol has 1 to {_MOST_NODES:,}")
    nodes = tuple(_node(number, entry) for number, entry in enumerate(entries))
    heads = _sources(found["heads"], len(nodes), "heads")
    if not heads:
        raise ModelError("the symbol has no outputs")
    return Symbol(nodes, heads)


def _node(number: int, entry: Any) -> Node:
    if not isinstance(entry, dict) or not isinstance(entry.get("op"), str) or not isinstance(entry.get("name"), str):
        raise ModelError(f"node {number} has no op and name")
    attributes: dict[str, str] = {}
    # Since 1.0 they are "attrs"; before, those of users were "attr" and those of the operator "param" or "attr".
    for key in ("attr", "param", "attrs"):
        part = entry.get(key) or {}
        if not isinstance(part, dict):
            raise ModelError(f"node {number}: {key} are not attributes by name")
        attributes.update({str(name): str(value) for name, value in part.items()})
    inputs = _sources(entry.get("inputs", []), number, f"node {number} {printable(entry['name'], quote=True)}")
    return Node(number, entry["op"], entry["name"], Attributes(attributes), inputs)


def _sources(found: Any, before: int, what: str) -> tuple[Source, ...]:
    """Pairs of node and output (and, since 0.9, a version); nodes must come before the number ``before``."""
    sources = []
    for item in found if isinstance(found, list) else (None,):
        if (
            not isinstance(item, list)
            or not 2 <= len(item) <= 3
            or not all(isinstance(n, int) and n >= 0 for n in item)
        ):
            raise ModelError(f"{what}: {printable(str(item))} is not a node's number and an output's")
        if item[0] >= before:
            raise ModelError(f"{what} reads node {item[0]}, which does not come before: a cycle, or damaged")
        sources.append((item[0], item[1]))
    return tuple(sources)
