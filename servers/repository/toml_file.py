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
engine = "tensorflow"            # or platform
options = { outputs = "policy,value" }
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

from tensorwire.servers.repository.config import (
    ConfigError,
    ModelConfig,
    RepositoryConfig,
    VersionPolicy,
    unknown_default,
)
from tensorwire.servers.repository.mistakes import Check, Mistakes, make_model, no_check
from tensorwire.servers.repository.places import toml_places
from tensorwire.servers.routing.rules import NEWEST, MirrorRule, SplitRule

__all__ = ["model_from_values", "read_toml", "write_toml"]

_TOP = ("default", "models")
_KINDS: Mapping[str, tuple[tuple[type, ...], str]] = {
    "path": ((str,), "text"),
    "engine": ((str,), "text"),
    "platform": ((str,), "text"),
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


def read_toml(text: str, check: Check = no_check) -> RepositoryConfig:
    """The models of a text, each held against ``check``, too.

    Raises ConfigError with every mistake, 'line N: ' before each that has a line.
    """
    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(_line_first(str(error))) from None
    except RecursionError:
        raise ConfigError("values are nested too deeply") from None
    places = toml_places(text)
    found = Mistakes(places)
    for key in document:
        if key not in _TOP:
            found.add(f"unknown key {key!r}: there are {', '.join(_TOP)}", key)
    tables = document.get("models", {})
    if not isinstance(tables, dict):
        found.add("models is a table for each model, as in [models.NAME]", "models")
        tables = {}
    models = []
    for name, table in tables.items():
        if not isinstance(table, dict):
            found.add(f"models.{name} is a table, as in [models.{name}], not {table!r}", "models", name)
            continue
        if "platform" in table:
            places.add(("models", name, "engine"), places.line("models", name, "platform"))
        try:
            models.append(model_from_values(name, table, check=check))
        except ConfigError as error:
            found.add(error, "models", name)
    default = document.get("default", "")
    if not isinstance(default, str):
        found.add(f"default is the name of a model, not {default!r}", "default")
    elif default and default not in tables:
        found.add(unknown_default(default, tables), "default")
    found.end()
    return RepositoryConfig(models=tuple(models), default=default)


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


def model_from_values(
    name: str, values: Mapping[str, Any], before: ModelConfig | None = None, *, check: Check = no_check
) -> ModelConfig:
    """A model of the keys and values that its table in TOML may have; ``before`` has those that are not given.

    Raises ConfigError with every mistake, those that ``check`` finds among them.
    """
    read: dict[str, Any] = {}
    mistakes: list[ConfigError] = []
    for key, value in values.items():
        try:
            read[_FIELDS.get(key, key)] = _read(key, value)
        except ValueError as error:  # ConfigError among them
            mistakes.append(ConfigError(f"model {name!r}: {error}", key))
    if "engine" in values and "platform" in values:
        mistakes.append(ConfigError(f"model {name!r}: platform is another word for engine: give one", "platform"))
    if before is None and "path" not in read:
        if "path" not in values:
            mistakes.append(ConfigError(f"model {name!r}: path is missing"))
        read["path"] = "/"
    if "labels" in values and "labels" not in read:  # what names those would be wrong only because of them
        read.pop("traffic", None)
        read.pop("shadow", None)
    kept = {} if before is None else {field.name: getattr(before, field.name) for field in fields(before)}
    return make_model({**kept, "name": name, **read}, check, mistakes)


def _read(key: str, value: Any) -> Any:
    if key not in _KINDS:
        raise ConfigError(f"unknown key {key!r}: there are {', '.join(_KINDS)}")
    kinds, words = _KINDS[key]
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise ConfigError(f"{key} is {words}, not {value!r}")
    return _READERS.get(key, _as_it_is)(value)


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


def _labels(value: dict[str, Any]) -> dict[str, int]:
    for label, number in value.items():
        if type(number) is not int:
            raise ConfigError(f"label {label!r} names a version by its number, not {number!r}")
    return value


_SHADOW: Mapping[str, tuple[type, ...]] = {"to": (str, int), "share": (int, float), "tolerance": (int, float)}
_READERS: Mapping[str, Callable[[Any], Any]] = {
    "versions": _versions,
    "labels": _labels,
    "traffic": _traffic,
    "shadow": _shadow,
}
_FIELDS: Mapping[str, str] = {"versions": "policy", "platform": "engine"}
"""Keys that ModelConfig calls otherwise."""


def _line_first(text: str) -> str:
    """The parser's 'what (at line 3, column 4)' with the line in front."""
    text = re.sub(r"^Cannot declare \('(.*?)',?\) twice", _twice, text)
    place = re.search(r" \(at line (\d+), column (\d+)\)$", text)
    return f"line {place[1]}: {text[: place.start()]} (column {place[2]})" if place else text


def _twice(found: re.Match[str]) -> str:
    """tomllib's tuple of names as a header."""
    return "[" + found[1].replace("', '", ".") + "] is there twice"


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
