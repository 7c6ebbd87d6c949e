"""simple_tensorflow_serving's ``model_config_list``, in JSON:
https://github.com/tobegit3hub/simple_tensorflow_serving#multiple-models
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.layout import numbered
from tensorwire.servers.repository.left_out import check_routes, left_out
from tensorwire.servers.repository.mistakes import Check, Mistakes, make_model, nearest, no_check, place_text
from tensorwire.servers.repository.places import Place, json_places
from tensorwire.servers.repository.source import is_remote

__all__ = ["read_sts", "sts_remarks", "write_sts"]

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
_THEIRS = "simple_tensorflow_serving"
_SYMBOL = "-symbol.json"


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


def write_sts(config: RepositoryConfig) -> str:
    """The same configuration as simple_tensorflow_serving reads it; ``sts_remarks`` says what it leaves out.

    Raises ConfigError for what it cannot say and models would answer otherwise without.
    """
    return json.dumps({_LIST: [_row(model) for model in config.models]}, indent=2, ensure_ascii=False) + "\n"


def sts_remarks(config: RepositoryConfig) -> list[str]:
    """What ``write_sts`` leaves out, since simple_tensorflow_serving's format has no place for it."""
    remarks = left_out(config)
    for model in config.models:
        who = f"model {model.name!r}:"
        if model.engine is None:
            remarks.append(f"{who} no engine is named: written as platform 'tensorflow'")
        if model.policy.latest:
            remarks.append(f"{who} versions is left out: {_THEIRS} serves all that are there")
        if model.labels:
            remarks.append(f"{who} labels = {dict(model.labels)!r} is left out")
        if _platform(model) != "tensorflow" and _has_versions(model.path):
            remarks.append(f"{who} {_THEIRS} wants the model itself as base_path of {_platform(model)}, no versions")
    return remarks


def _row(model: ModelConfig) -> dict[str, Any]:
    platform = _platform(model)
    if platform not in _ENGINES:
        names = ", ".join(sorted(set(_ENGINES.values())))
        raise ConfigError(f"model {model.name!r}: {_THEIRS} has no engine {model.engine!r}, but {names}")
    check_routes(model, _THEIRS)
    if model.policy.specific:
        raise ConfigError(f"model {model.name!r}: {_THEIRS} serves all versions, and cannot be told which")
    row: dict[str, Any] = {"name": model.name, "base_path": model.path, "platform": platform}
    if platform == "mxnet":
        row["base_path"] = model.path.removesuffix(_SYMBOL)
    session = {}
    options = dict(model.options)
    if platform == "tensorflow":
        if libraries := _library_list(options.pop("custom_ops", ())):
            row["custom_op_paths"] = ",".join(libraries)  # a list is not understood there
        for key, (option, kind) in _SESSION.items():
            if type(options.get(option)) is kind:
                session[key] = options.pop(option)
    if session:
        row["session_config"] = session
    if options:
        raise ConfigError(f"model {model.name!r}: {_THEIRS}'s format has no place for options {', '.join(options)}")
    return row


def _platform(model: ModelConfig) -> str:
    """Their word for the engine, or our own when they have none."""
    if model.engine is None:
        return "tensorflow"
    return next((theirs for theirs, ours in _ENGINES.items() if ours == model.engine), model.engine)


def _has_versions(path: str) -> bool:
    try:
        return not is_remote(path) and bool(numbered(Path(path).expanduser()))
    except OSError:
        return False


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
        symbol = path.with_name(path.name + _SYMBOL)
        return str(symbol if symbol.exists() else path)
    return str(path)


def _libraries(paths: str | list[Any]) -> list[str]:
    """Files, and all libraries in folders, from a list or text with commas; what is not there, loading will tell."""
    found: list[str] = []
    for part in _library_list(paths):
        path = Path(part).expanduser().absolute()
        found += map(str, sorted(path.glob("*.so"))) if path.is_dir() else [str(path)]
    return found


def _library_list(paths: str | Sequence[Any]) -> list[str]:
    parts = paths.split(",") if isinstance(paths, str) else map(str, paths)
    return [part.strip() for part in parts if part.strip()]
