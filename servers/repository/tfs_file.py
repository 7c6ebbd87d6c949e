"""TensorFlow Serving's ``model_config_list``, in protobuf's text format.

The messages are those of tensorflow_serving/config/model_server_config.proto and logging_config.proto, and of
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto
(https://github.com/tensorflow/serving), as far as a configuration can use them here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tensorwire.servers.repository import messages
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.left_out import check_routes, left_out
from tensorwire.servers.repository.messages import (
    DOUBLE,
    ENUM,
    INT32,
    INT64,
    MESSAGE,
    OPTIONAL,
    REPEATED,
    STRING,
    UINT32,
    Fields,
)
from tensorwire.servers.repository.mistakes import Check, Mistakes, make_model, no_check, place_text
from tensorwire.servers.repository.places import Place, Places, proto_places

__all__ = ["read_tfs", "tfs_remarks", "write_tfs"]

_PACKAGE = "tensorwire.tfs"
_MESSAGES: dict[str, Fields] = {
    "Latest": (("num_versions", 1, OPTIONAL, UINT32, ""),),
    "All": (),
    "Specific": (("versions", 1, REPEATED, INT64, ""),),
    "ServableVersionPolicy": (
        ("latest", 100, OPTIONAL, MESSAGE, "Latest"),
        ("all", 101, OPTIONAL, MESSAGE, "All"),
        ("specific", 102, OPTIONAL, MESSAGE, "Specific"),
    ),
    # A map there, which is written in the same way; as a list it shows when a key is given twice.
    "LabelsEntry": (("key", 1, OPTIONAL, STRING, ""), ("value", 2, OPTIONAL, INT64, "")),
    "SamplingConfig": (("sampling_rate", 1, OPTIONAL, DOUBLE, ""), ("attributes", 2, OPTIONAL, INT32, "")),
    "LogCollectorConfig": (("type", 1, OPTIONAL, STRING, ""), ("filename_prefix", 2, OPTIONAL, STRING, "")),
    "LoggingConfig": (
        ("log_collector_config", 1, OPTIONAL, MESSAGE, "LogCollectorConfig"),
        ("sampling_config", 2, OPTIONAL, MESSAGE, "SamplingConfig"),
    ),
    "ModelConfig": (
        ("name", 1, OPTIONAL, STRING, ""),
        ("base_path", 2, OPTIONAL, STRING, ""),
        ("model_type", 3, OPTIONAL, ENUM, "ModelType"),
        ("model_platform", 4, OPTIONAL, STRING, ""),
        ("logging_config", 6, OPTIONAL, MESSAGE, "LoggingConfig"),
        ("model_version_policy", 7, OPTIONAL, MESSAGE, "ServableVersionPolicy"),
        ("version_labels", 8, REPEATED, MESSAGE, "LabelsEntry"),
    ),
    "ModelConfigList": (("config", 1, REPEATED, MESSAGE, "ModelConfig"),),
    "ModelServerConfig": (("model_config_list", 1, OPTIONAL, MESSAGE, "ModelConfigList"),),
}
_PLATFORMS = {"": None, "tensorflow": None, "tensorflowlite": None}
"""What model_platform may be there; the engine is then found by the files. Other words name one of our engines."""
_OTHER = 2
"""The model_type of models that are not TensorFlow's, which was said so before there was model_platform."""
_KEYS = {
    "path": "base_path",
    "engine": "model_platform",
    "labels": "version_labels",
    "policy": "model_version_policy",
}


def read_tfs(text: str, check: Check = no_check) -> RepositoryConfig:
    """The models of a text, each held against ``check``, too.

    Raises ConfigError with every mistake, 'line N: ' before each that has a line.
    """
    from google.protobuf import text_format

    places = proto_places(text)
    if places.has(("custom_model_config",)):
        line = place_text(places.line("custom_model_config"))
        raise ConfigError(f"{line}custom_model_config is for servers built with a loader of their own: list the models")
    message = _classes()["ModelServerConfig"]()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(_line_first(str(error))) from None
    if not message.HasField("model_config_list"):
        raise ConfigError("no model_config_list in it")
    found = Mistakes(places, _KEYS)
    models: list[tuple[ModelConfig, Place]] = []
    remarks: list[str] = []
    for number, config in enumerate(message.model_config_list.config):
        place = ("model_config_list", 0, "config", number)
        labels = _labels(config, place, places, found)
        if config.HasField("logging_config"):
            line = place_text(places.line(*place, "logging_config"))
            remarks.append(f"{line}model {config.name!r}: logging_config has no effect here")
        try:
            models.append((_model(config, labels, check), place))
        except ConfigError as error:
            found.add(error, *place)
    found.add_repeated_names(models)
    found.end()
    return RepositoryConfig(models=tuple([model for model, _ in models]), remarks=tuple(remarks))


def write_tfs(config: RepositoryConfig) -> str:
    """The same configuration as TensorFlow Serving reads it; ``tfs_remarks`` says what it leaves out.

    Raises ConfigError for what it cannot say and models would answer otherwise without.
    """
    from google.protobuf import text_format

    message = _classes()["ModelServerConfig"]()
    message.model_config_list.SetInParent()
    for model in config.models:
        if model.options:
            raise ConfigError(f"model {model.name!r}: TensorFlow Serving's format has no place for options")
        check_routes(model, "TensorFlow Serving")
        row = message.model_config_list.config.add(
            name=model.name, base_path=model.path, model_platform=model.engine or "tensorflow"
        )
        if model.policy.specific:
            row.model_version_policy.specific.versions.extend(model.policy.specific)
        elif not model.policy.latest:
            row.model_version_policy.all.SetInParent()
        elif model.policy.latest > 1:
            row.model_version_policy.latest.num_versions = model.policy.latest
        for label, number in model.labels.items():
            row.version_labels.add(key=label, value=number)
    written: str = text_format.MessageToString(message)
    return written


def tfs_remarks(config: RepositoryConfig) -> list[str]:
    """What ``write_tfs`` leaves out, since TensorFlow Serving's format has no place for it."""
    remarks = left_out(config)
    for model in config.models:
        if model.engine not in _PLATFORMS.values() and model.engine != "tensorflow":
            remarks.append(f"model {model.name!r}: TensorFlow Serving does not know the platform {model.engine!r}")
    return remarks


def _labels(config: Any, place: Place, places: Places, found: Mistakes) -> dict[str, int]:
    """The labels of a model; where each stands is added to the places, under its name."""
    labels: dict[str, int] = {}
    for number, entry in enumerate(config.version_labels):
        line = places.line(*place, "version_labels", number)
        if entry.key in labels:
            found.at(line, f"model {config.name!r}: label {entry.key!r} is given twice")
            continue
        places.add((*place, "version_labels", entry.key), line)
        labels[entry.key] = entry.value
    return labels


def _model(config: Any, labels: dict[str, int], check: Check) -> ModelConfig:
    mistakes: list[ConfigError] = []
    if config.model_type == _OTHER:
        wrong = f'model {config.name!r}: model_type OTHER names no platform; say model_platform: "tensorflow"'
        mistakes.append(ConfigError(wrong, "model_type"))
    chosen = VersionPolicy()
    try:
        chosen = _policy(config.model_version_policy)
    except ConfigError as error:
        mistakes.append(ConfigError(f"model {config.name!r}: {error}", "policy", error.item))
    platform = config.model_platform
    fields = {
        "name": config.name,
        "path": config.base_path,
        "engine": _PLATFORMS.get(platform, platform),
        "policy": chosen,
        "labels": labels,
    }
    return make_model(fields, check, mistakes)


def _policy(policy: Any) -> VersionPolicy:
    if policy.HasField("specific"):
        if not policy.specific.versions:
            raise ConfigError("a specific version policy names no versions")
        return VersionPolicy(specific=tuple(policy.specific.versions))
    if policy.HasField("all"):
        return VersionPolicy(latest=0)
    return VersionPolicy(latest=policy.latest.num_versions or 1)


@cache
def _classes() -> dict[str, Any]:
    file = messages.declare(_PACKAGE, _MESSAGES)
    policy = next(message for message in file.message_type if message.name == "ServableVersionPolicy")
    policy.oneof_decl.add(name="policy_choice")
    for field in policy.field:
        field.oneof_index = 0
    kinds = file.enum_type.add(name="ModelType")
    for number, name in enumerate(("MODEL_TYPE_UNSPECIFIED", "TENSORFLOW", "OTHER")):
        kinds.value.add(name=name, number=number)
    return messages.classes(file)


def _line_first(text: str) -> str:
    """protobuf's '3:7 : what' as 'line 3: what (column 7)'."""
    place, colon, what = text.partition(" : ")
    line, _, column = place.partition(":")
    if not (colon and line.isdigit() and column.isdigit()):
        return text
    return f"line {line}: {what} (column {column})"
