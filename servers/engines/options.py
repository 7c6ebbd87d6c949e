"""The options of an engine, read one by one with their types; what is left over is a mistake."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorwire.servers.model import ModelError

__all__ = ["ALLOW_PICKLE", "MOST_RUNS", "Options", "usable_cores"]

MOST_RUNS = 4
"""Calls of one model at once, unless the user says otherwise: frameworks run one call on several cores."""

ALLOW_PICKLE = "--allow-pickle (in a TOML configuration: options = { allow_pickle = true })"
"""What a user gives who trusts a file's maker, wherever the model is named."""

_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off", "")


class Options:
    """What the user set for one load, by name; values come from the command line as text, from Python as they are.

    Names that several engines share mean the same in all of them: ``device`` ('cpu', 'cuda', 'cuda:1'),
    ``intra_op_num_threads`` and ``inter_op_num_threads`` (0: the framework decides), ``concurrency`` (calls at once),
    ``inputs`` and ``outputs`` (names of tensors), ``custom_ops`` (shared libraries), ``allow_pickle`` (formats that
    run code of their maker's when they are read).

    Every reader takes its option out; ``end`` refuses those that are left. All raise ModelError.
    """

    def __init__(self, engine: str, given: Mapping[str, Any]) -> None:
        self._engine = engine
        self._given = dict(given)

    def whole(self, name: str, default: int = 0) -> int:
        """A whole number, 0 or more."""
        value = self._given.pop(name, default)
        try:
            number = int(value)
        except (TypeError, ValueError):
            number = -1
        if number < 0:
            raise ModelError(f"option {name} is a number, 0 or more, not {value!r}")
        return number

    def flag(self, name: str, default: bool = False) -> bool:
        """Yes or no: 1, true, yes, on, or 0, false, no, off."""
        value = self._given.pop(name, default)
        text = str(int(value) if isinstance(value, bool) else value).strip().lower()
        if text not in (*_TRUE, *_FALSE):
            raise ModelError(f"option {name} is 1 or 0, not {value!r}")
        return text in _TRUE

    def text(self, name: str, default: str = "") -> str:
        """Any text."""
        return str(self._given.pop(name, default)).strip()

    def value(self, name: str, default: Any = None) -> Any:
        """Whatever came: text from the command line, any object from Python."""
        return self._given.pop(name, default)

    def choice(self, name: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        text = self.text(name, default).lower()
        if text not in choices:
            raise ModelError(f"option {name} is one of {', '.join(choices)}, not {text!r}")
        return text

    def dotted(self) -> dict[str, str]:
        """Every option with a dot in its name: settings that a framework has many of, and names so itself."""
        return {name: str(self._given.pop(name)) for name in list(self._given) if "." in name}

    def names(self, name: str, default: str = "") -> list[str]:
        """Names, as a sequence or as text with commas; empty ones are left out."""
        value = self._given.pop(name, default)
        parts = value.split(",") if isinstance(value, str) else [str(part) for part in value]
        return [part.strip() for part in parts if part.strip()]

    def files(self, name: str) -> list[Path]:
        """Files that exist, as a sequence or as text with commas."""
        found = [Path(part).expanduser() for part in self.names(name)]
        for path in found:
            if not path.is_file():
                raise ModelError(f"option {name}: no such file: {path}")
        return found

    def concurrency(self) -> int:
        """Calls at once: what was asked for, or one for each of the first few cores."""
        return self.whole("concurrency") or min(MOST_RUNS, usable_cores())

    def end(self, path: Path) -> None:
        """Refuse what nobody has read."""
        if self._given:
            raise ModelError(f"{path}: the {self._engine} engine has no option {', '.join(self._given)}")


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
