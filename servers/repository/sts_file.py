"""simple_tensorflow_serving's ``model_config_list``, in JSON:
https://github.com/tobegit3hub/simple_tensorflow_serving#multiple-models
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.mistakes import Check, Mistakes, make_model, nearest, no_check, place_text
from tensorwire.servers.repository.places import Place, json_places
from tensorwire.servers.repository.source import is_remote

__all__ = ["read_sts"]

_LIST = "model_config_list"
_ENGINES = {
    "tensorflow": "tensorflow",
    "mxnet": "mxnet",
    "onnx": "onnx",
    "pytorch_onnx": "onnx",
    "scikitlearn": "sklearn",
    "xgboost": "xgboost",
}
_FOREIGN = ("h2o", "pmml", "mllib", "pytorch", "spark_mllib", "customized")
_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "base_path": (str,),
    "platform": (str,),
    "custom_op_paths": (str, list),
    "session_config": (dict,),
}
_SESSION = {
    "allow_growth": ("memory_growth", bool),
    "intra_op_parallelism_threads": ("intra_op_num_threads", int),
    "inter_op_parallelism_threads": ("inter_op_num_threads", int),
}
"""Keys of session_config that are options of our engine, with what they may be."""
_TAKEN = {"path": "base_path", "engine": "platform"}


def read_sts(text: str, check: Check = no_check) -> RepositoryConfig:
    """The models of a text, each held against ``check``, too. Relative paths begin in the current folder, as there.

    Raises ConfigError with every mistake, 'line N: ' before each that has a line.
    """
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}: {error.msg} (column {error.colno})") from None
    except RecursionError:
        raise ConfigError("values are nested too deeply") from None
    rows = document.get(_LIST) if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ConfigError(f"no list {_LIST!r} in it")
    places = json_places(text)
    found = Mistakes(places, _TAKEN)
    for place, line in places.repeated:
        found.at(line, f"{_where(place)}the key {place[-1]!r} is given twice")
    for key in document:
        if key != _LIST:
            found.add(f"unknown key {key!r}: there is {_LIST}", key)
    models: list[tuple[ModelConfig, Place]] = []
    remarks: list[str] = []
    for number, row in enumerate(rows):
        before = (_LIST, number)
        if not isinstance(row, dict):
            found.add(f"{_where(before)[:-2]} is an object, not {row!r}", *before)
            continue
        for key in _without_effect(row):
            at = place_text(places.line(*before, "session_config", key))
            remarks.append(f"{at}{_where(before)}session_config: {key} has no effect here")
        mistakes = list(_mistakes(row))
        for wrong in mistakes:
            found.add(ConfigError(f"{_where(before)}{wrong}", wrong.field, wrong.item), *before)
        if mistakes:
            continue
        try:
            models.append((_model(row, check), before))
        except ConfigError as error:
            found.add(error, *before)
    found.add_repeated_names(models)
    found.end()
    return RepositoryConfig(models=tuple([model for model, _ in models]), remarks=tuple(remarks))


def _where(place: Place) -> str:
    """'model 1 of model_config_list: ' for what stands in it."""
    return f"model {int(place[1]) + 1} of {_LIST}: " if len(place) > 1 else ""


def _mistakes(row: dict[str, Any]) -> Iterator[ConfigError]:
    """What is wrong with the keys and values of a model; ``field`` is the key."""
    for key, value in row.items():
        if key not in _KINDS:
            yield ConfigError(f"unknown key {key!r}: there are {', '.join(_KINDS)}", key)
        elif not isinstance(value, _KINDS[key]):
            words = {"session_config": "an object", "custom_op_paths": "text or a list"}.get(key, "text")
            yield ConfigError(f"{key} is {words}, not {value!r}", key)
    for key in ("name", "base_path"):
        if key not in row:
            yield ConfigError(f"{key} is missing")
    platform = row.get("platform", "tensorflow")
    if platform in _FOREIGN:
        yield ConfigError(f"no engine for the platform {platform!r} here; convert the model to ONNX", "platform")
    elif isinstance(platform, str) and platform not in _ENGINES:
        names = f"there are {', '.join(_ENGINES)}"
        yield ConfigError(f"unknown platform {platform!r}{nearest(platform, _ENGINES)}: {names}", "platform")
    for key, (_, kind) in _SESSION.items():
        value = _session(row).get(key, kind())
        if type(value) is not kind:
            words = "true or false" if kind is bool else "a number"
            yield ConfigError(f"session_config: {key} is {words}, not {value!r}", "session_config", key)


def _session(row: dict[str, Any]) -> dict[str, Any]:
    found = row.get("session_config")
    return found if isinstance(found, dict) else {}


def _without_effect(row: dict[str, Any]) -> list[str]:
    ours = _SESSION if row.get("platform", "tensorflow") == "tensorflow" else {}
    return [key for key in _session(row) if key not in ours]


def _model(row: dict[str, Any], check: Check) -> ModelConfig:
    engine = _ENGINES[row.get("platform", "tensorflow")]
    options: dict[str, Any] = {}
    if libraries := _libraries(row.get("custom_op_paths", "")):
        options["custom_ops"] = libraries
    if engine == "tensorflow":
        options |= {option: _session(row)[key] for key, (option, _) in _SESSION.items() if key in _session(row)}
    fields = {"name": row["name"], "path": _path(row["base_path"], engine), "engine": engine, "options": options}
    return make_model({**fields, "policy": VersionPolicy(latest=0)}, check)  # it serves every version that is there


def _path(text: str, engine: str) -> str:
    if is_remote(text) or not text:
        return text
    path = Path(text).expanduser().absolute()
    if engine == "mxnet" and not path.exists():
        # There it is what the names of the symbol's and the parameters' files have in common.
        symbol = path.with_name(f"{path.name}-symbol.json")
        return str(symbol if symbol.exists() else path)
    return str(path)


def _libraries(paths: str | list[Any]) -> list[str]:
    """Files, and all libraries in folders, from a list or text with commas; what is not there, loading will tell."""
    found: list[str] = []
    for part in paths.split(",") if isinstance(paths, str) else map(str, paths):
        if part.strip():
            path = Path(part.strip()).expanduser().absolute()
            found += map(str, sorted(path.glob("*.so"))) if path.is_dir() else [str(path)]
    return found
