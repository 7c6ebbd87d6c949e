"""simple_tensorflow_serving's ``model_config_list``, in JSON:
https://github.com/tobegit3hub/simple_tensorflow_serving#multiple-models
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig

__all__ = ["read_sts"]

_ENGINES = {
    "tensorflow": "tensorflow",
    "mxnet": "mxnet",
    "onnx": "onnx",
    "pytorch_onnx": "onnx",
    "scikitlearn": "sklearn",
    "xgboost": "xgboost",
}
_FOREIGN = ("h2o", "pmml", "mllib", "pytorch", "spark_mllib", "customized")
_KEYS = ("name", "base_path", "platform", "custom_op_paths", "session_config")


def read_sts(text: str) -> RepositoryConfig:
    """Relative paths are taken from the current folder, as there. Raises ConfigError."""
    try:
        document = json.loads(text)
    except json.JSONDecodeError as error:
        raise ConfigError(f"line {error.lineno}: {error.msg} (column {error.colno})") from None
    rows = document.get("model_config_list") if isinstance(document, dict) else None
    if not isinstance(rows, list):
        raise ConfigError("no list 'model_config_list' in it")
    return RepositoryConfig(models=tuple([_model(number, row) for number, row in enumerate(rows, 1)]))


def _model(place: int, row: Any) -> ModelConfig:
    where = f"model {place} of model_config_list"
    if not isinstance(row, dict):
        raise ConfigError(f"{where} is an object, not {row!r}")
    for key in row:
        if key not in _KEYS:
            raise ConfigError(f"{where}: unknown key {key!r}: there are {', '.join(_KEYS)}")
    for key in ("name", "base_path"):
        if not isinstance(row.get(key), str):
            raise ConfigError(f"{where}: {key} is missing, or is no text")
    platform = row.get("platform", "tensorflow")
    if platform not in _ENGINES:
        if platform in _FOREIGN:
            raise ConfigError(f"{where}: no engine for the platform {platform!r} here; convert the model to ONNX")
        raise ConfigError(f"{where}: unknown platform {platform!r}: there are {', '.join(_ENGINES)}")
    options: dict[str, Any] = {}
    if libraries := row.get("custom_op_paths"):
        options["custom_ops"] = libraries
    return ModelConfig(
        name=row["name"], path=str(Path(row["base_path"]).absolute()), engine=_ENGINES[platform], options=options
    )
