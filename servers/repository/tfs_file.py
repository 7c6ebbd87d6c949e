"""TensorFlow Serving's ``model_config_list``, in protobuf's text format.

The messages are those of tensorflow_serving/config/model_server_config.proto and
tensorflow_serving/sources/storage_path/file_system_storage_path_source.proto
(https://github.com/tensorflow/serving), as far as a configuration can use them here.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from tensorwire.servers.repository import messages
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig, VersionPolicy
from tensorwire.servers.repository.messages import INT32, INT64, MESSAGE, OPTIONAL, REPEATED, STRING, UINT32, Fields

__all__ = ["read_tfs", "write_tfs"]

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
    "LabelsEntry": (("key", 1, OPTIONAL, STRING, ""), ("value", 2, OPTIONAL, INT64, "")),
    "ModelConfig": (
        ("name", 1, OPTIONAL, STRING, ""),
        ("base_path", 2, OPTIONAL, STRING, ""),
        ("model_type", 3, OPTIONAL, INT32, ""),
        ("model_platform", 4, OPTIONAL, STRING, ""),
        ("model_version_policy", 7, OPTIONAL, MESSAGE, "ServableVersionPolicy"),
        ("version_labels", 8, REPEATED, MESSAGE, "LabelsEntry"),
    ),
    "ModelConfigList": (("config", 1, REPEATED, MESSAGE, "ModelConfig"),),
    "ModelServerConfig": (("model_config_list", 1, OPTIONAL, MESSAGE, "ModelConfigList"),),
}
_PLATFORMS = {"": None, "tensorflow": None, "tensorflowlite": None}
"""What model_platform may be there; the engine is then found by the files. Other words name one of our engines."""


def read_tfs(text: str) -> RepositoryConfig:
    """Raises ConfigError, with the line where protobuf names it."""
    from google.protobuf import text_format

    message = _classes()["ModelServerConfig"]()
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise ConfigError(_line_first(str(error))) from None
    if not message.HasField("model_config_list"):
        raise ConfigError("no model_config_list in it")
    return RepositoryConfig(models=tuple([_model(config) for config in message.model_config_list.config]))


def write_tfs(config: RepositoryConfig) -> str:
    """The same configuration as TensorFlow Serving reads it. Raises ConfigError for what it cannot say."""
    from google.protobuf import text_format

    message = _classes()["ModelServerConfig"]()
    message.model_config_list.SetInParent()
    for model in config.models:
        if model.options:
            raise ConfigError(f"model {model.name!r}: TensorFlow Serving's format has no place for options")
        if model.traffic.weights or model.shadow is not None:
            raise ConfigError(f"model {model.name!r}: TensorFlow Serving's format has no place for traffic and shadow")
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
            row.version_labels[label] = number
    written: str = text_format.MessageToString(message)
    return written


def _model(config: Any) -> ModelConfig:
    if config.model_type:
        raise ConfigError(f'model {config.name!r}: model_type is long gone; say model_platform: "tensorflow"')
    policy = config.model_version_policy
    if policy.HasField("specific"):
        if not policy.specific.versions:
            raise ConfigError(f"model {config.name!r}: a specific version policy names no versions")
        chosen = VersionPolicy(specific=tuple(policy.specific.versions))
    elif policy.HasField("all"):
        chosen = VersionPolicy(latest=0)
    else:
        chosen = VersionPolicy(latest=policy.latest.num_versions or 1)
    platform = config.model_platform
    return ModelConfig(
        name=config.name,
        path=config.base_path,
        engine=_PLATFORMS.get(platform, platform),
        policy=chosen,
        labels=dict(config.version_labels),
    )


@cache
def _classes() -> dict[str, Any]:
    file = messages.declare(_PACKAGE, _MESSAGES)
    policy = next(message for message in file.message_type if message.name == "ServableVersionPolicy")
    policy.oneof_decl.add(name="policy_choice")
    for field in policy.field:
        field.oneof_index = 0
    # A map is a repeated message, nested in the one that has it, with an option that says so.
    owner = next(message for message in file.message_type if message.name == "ModelConfig")
    entry = next(message for message in file.message_type if message.name == "LabelsEntry")
    nested = owner.nested_type.add()
    nested.CopyFrom(entry)
    nested.name = "VersionLabelsEntry"
    nested.options.map_entry = True
    labels = next(field for field in owner.field if field.name == "version_labels")
    labels.type_name = f".{_PACKAGE}.ModelConfig.VersionLabelsEntry"
    return messages.classes(file)


def _line_first(text: str) -> str:
    """protobuf's '3:7 : what' as 'line 3: what (column 7)'."""
    place, colon, what = text.partition(" : ")
    line, _, column = place.partition(":")
    if not (colon and line.isdigit() and column.isdigit()):
        return text
    return f"line {line}: {what} (column {column})"
