"""Our own configuration: TOML, every mistake told with its line.

default = "digits"

[models.digits]
path = "/srv/models/digits"
versions = "latest"              # or "all", { latest = 2 }, [1, 3]
labels = { stable = 1, canary = 2 }
traffic = { stable = 95, canary = 5 }
shadow = "canary"                # or 2, { to = "canary", share = 0.1, tolerance = 1e-3 }

[models.policy]
path = "/srv/models/az4.pb"
engine = "tensorflow"
options = { outputs = "policy,value" }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule

__all__ = ["model_from_values", "read_toml", "write_toml"]

_TOP = ("default", "models")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "path": ((str,), "text"),
    "engine": ((str,), "text"),
    "options": ((dict,), "a table"),
    "versions": ((str, dict, list), "'latest', 'all', { latest = N } or a list of numbers"),
    "labels": ((dict,), "a table of names and versions"),
    "ready_file": ((str,), "text"),
    "settle": ((int, float), "a number of seconds"),
    "transition": ((str,), "'availability' or 'resource'"),
    "attempts": ((int,), "a number"),
    "warm_up": ((bool,), "true or false"),
    "traffic": ((dict,), "a table of weights by version or label"),
    "shadow": ((str, int, dict), "a version, a label, or { to = ..., share = ..., tolerance = ... }"),
    "pinned": ((bool,), "true or false"),
}
"""The keys of a model, what each may be, and that in words."""


def read_toml(text: str) -> RepositoryConfig:
    """Raises ConfigError, its text beginning with 'line N: ' wherever a line can be named."""
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_line_first(str(error))) from None
    lines = _Lines(text)
    for key in document:
        if key not in _TOP:
            raise ConfigError(f"{lines.of(key)}unknown key {key!r}: there are {', '.join(_TOP)}")
    tables = document.get("models", {})
    if not isinstance(tables, dict):
        raise ConfigError(f"{lines.of('models')}models is a table for each model, as in [models.NAME]")
    models = tuple([_model(name, table, lines) for name, table in tables.items()])
    default = document.get("default", "")
    if not isinstance(default, str):
        raise ConfigError(f"{lines.of('default')}default is the name of a model, not {default!r}")
    try:
        return RepositoryConfig(models=models, default=default)
    except ConfigError as error:
        raise ConfigError(f"{lines.of('default')}{error}") from None


def write_toml(config: RepositoryConfig) -> str:
    """The same configuration as text that ``read_toml`` reads."""
    parts = [f"default = {_quoted(config.default)}\n"] if config.default else []
    for model in config.models:
        rows = [f"[models.{_key(model.name)}]", f"path = {_quoted(model.path)}"]
        if model.engine is not None:
            rows.append(f"engine = {_quoted(model.engine)}")
        if model.options:
            rows.append(f"options = {_value(dict(model.options))}")
        if model.policy != VersionPolicy():
            rows.append(f"versions = {_versions_text(model.policy)}")
        if model.labels:
            rows.append(f"labels = {_value(dict(model.labels))}")
        usual = ModelConfig(name=model.name, path=model.path)
        if model.traffic.weights:
            rows.append(f"traffic = {_value(model.traffic.weights)}")
        if model.shadow is not None:
            rows.append(f"shadow = {_value(_shadow_table(model.shadow))}")
        for name in ("ready_file", "settle", "transition", "attempts", "warm_up", "pinned"):
            if getattr(model, name) != getattr(usual, name):
                rows.append(f"{name} = {_value(getattr(model, name))}")
        parts.append("\n".join(rows) + "\n")
    return "\n".join(parts)


def _shadow_table(rule: MirrorRule) -> dict[str, Any]:
    usual = MirrorRule(rule.to)
    table = {"to": rule.to, "share": rule.share, "tolerance": rule.tolerance}
    return {key: value for key, value in table.items() if key == "to" or value != getattr(usual, key)}


def model_from_values(name: str, values: Mapping[str, Any], before: ModelConfig | None = None) -> ModelConfig:
    """A model of the keys and values that its table in TOML may have; ``before`` has those that are not given.

    Raises ConfigError.
    """
    read: dict[str, Any] = {}
    for key, value in values.items():
        if key not in _KINDS:
            raise ConfigError(f"model {name!r}: unknown key {key!r}: there are {', '.join(_KINDS)}", key)
        kinds, words = _KINDS[key]
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise ConfigError(f"model {name!r}: {key} is {words}, not {value!r}", key)
        try:
            if isinstance(value, dict) and key == "labels":
                _check_labels(value)
            read["policy" if key == "versions" else key] = _READERS.get(key, _as_it_is)(value)
        except ValueError as error:  # ConfigError among them
            raise ConfigError(f"model {name!r}: {error}", key) from None
    if before is not None:
        return replace(before, **read)
    if "path" not in read:
        raise ConfigError(f"model {name!r}: path is missing")
    return ModelConfig(name=name, **read)


def _model(name: str, table: Any, lines: _Lines) -> ModelConfig:
    if not isinstance(table, dict):
        where = lines.of("models", name)
        raise ConfigError(f"{where}models.{name} is a table, as in [models.{name}], not {table!r}")
    try:
        return model_from_values(name, table)
    except ConfigError as error:
        raise ConfigError(f"{lines.of('models', name, error.field)}{error}", error.field) from None


def _versions(value: Any) -> VersionPolicy:
    if value == "latest":
        return VersionPolicy()
    if value == "all":
        return VersionPolicy(latest=0)
    if isinstance(value, list) and value and all(type(number) is int for number in value):
        return VersionPolicy(specific=tuple(value))
    if isinstance(value, dict) and list(value) == ["latest"] and type(value["latest"]) is int and value["latest"] > 0:
        return VersionPolicy(latest=value["latest"])
    raise ConfigError(f"versions is {_KINDS['versions'][1]}, not {value!r}")


def _traffic(value: dict[str, Any]) -> SplitRule:
    for name, weight in value.items():
        if type(weight) not in (int, float):
            raise ConfigError(f"traffic: the weight of {name!r} is a number, not {weight!r}")
    return SplitRule(value) if value else NEWEST


def _shadow(value: Any) -> MirrorRule | None:
    """'' and an empty table are no copies: so they are ended over HTTP."""
    if not value and value != 0:
        return None
    table = value if isinstance(value, dict) else {"to": value}
    for key, kinds in table.items():
        if key not in _SHADOW:
            raise ConfigError(f"shadow: unknown key {key!r}: there are {', '.join(_SHADOW)}")
        if type(kinds) not in _SHADOW[key]:
            raise ConfigError(f"shadow: {key} is {'a version or label' if key == 'to' else 'a number'}, not {kinds!r}")
    if "to" not in table:
        raise ConfigError("shadow: to is missing: the version or label that requests are copied to")
    return MirrorRule(**{**table, "to": str(table["to"])})


def _as_it_is(value: Any) -> Any:
    return value


def _check_labels(value: dict[str, Any]) -> None:
    for label, number in value.items():
        if type(number) is not int:
            raise ConfigError(f"label {label!r} names a version by its number, not {number!r}")


_SHADOW: Mapping[str, tuple[type, ...]] = {"to": (str, int), "share": (int, float), "tolerance": (int, float)}
_READERS: Mapping[str, Callable[[Any], Any]] = {"versions": _versions, "traffic": _traffic, "shadow": _shadow}


class _Lines:
    """Where in a TOML text a key stands; by its looks, since the parser does not say."""

    def __init__(self, text: str) -> None:
        self._found: dict[tuple[str, ...], int] = {}
        table: tuple[str, ...] = ()
        for number, line in enumerate(text.splitlines(), 1):
            if header := re.match(r"\s*\[([^\[\]]+)\]\s*(#.*)?$", line):
                table = _parts(header[1])
                for depth in range(1, len(table) + 1):
                    self._found.setdefault(table[:depth], number)
            elif key := re.match(
                r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line
            ):
                path = (*table, *_parts(key[1]))
                for depth in range(len(table) + 1, len(path) + 1):
                    self._found.setdefault(path[:depth], number)

    def of(self, *path: str) -> str:
        """'line N: ', of the longest part of the path that has a line of its own; '' when none has."""
        for depth in range(len(path), 0, -1):
            if path[:depth] in self._found:
                return f"line {self._found[path[:depth]]}: "
        return ""


def _parts(dotted: str) -> tuple[str, ...]:
    parts = re.findall(r"""[\w-]+|"[^"]*"|'[^']*'""", dotted)
    return tuple(part.strip("\"'") for part in parts)


def _line_first(text: str) -> str:
    """The parser's 'what (at line 3, column 4)' with the line in front."""
    place = re.search(r" \(at line (\d+), column (\d+)\)$", text)
    return f"line {place[1]}: {text[: place.start()]} (column {place[2]})" if place else text


def _versions_text(policy: VersionPolicy) -> str:
    if policy.specific:
        return _value(list(policy.specific))
    return f"{{ latest = {policy.latest} }}" if policy.latest else '"all"'


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name, re.ASCII) else _quoted(name)


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + "".join(c if c.isprintable() else f"\\U{ord(c):08x}" for c in escaped) + '"'


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{_key(str(key))} = {_value(item)}" for key, item in value.items()) + " }"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(_value, value)) + "]"
    return _quoted(str(value))
