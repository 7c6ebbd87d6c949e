"""Reading a configuration file, whichever of the formats it is in."""

from __future__ import annotations

from pathlib import Path

from tensorwire.servers.repository.config import ConfigError, RepositoryConfig
from tensorwire.servers.repository.sts_file import read_sts
from tensorwire.servers.repository.tfs_file import read_tfs
from tensorwire.servers.repository.toml_file import read_toml

__all__ = ["FORMATS", "check_places", "find_format", "read_config"]

FORMATS = {"toml": read_toml, "tfs": read_tfs, "sts": read_sts}
"""Ours, TensorFlow Serving's text protocol buffer, simple_tensorflow_serving's JSON."""

_LARGEST = 16 << 20  # bytes: a configuration is written by people, or for them


def find_format(path: Path, text: str) -> str:
    """'toml', 'sts' or 'tfs', by the file's suffix and, without a telling one, by how the text begins."""
    suffix = path.suffix.lower()
    if suffix in (".toml", ".json"):
        return {".toml": "toml", ".json": "sts"}[suffix]
    return "sts" if text.lstrip().startswith("{") else "tfs"


def read_config(path: Path, kind: str | None = None) -> RepositoryConfig:
    """The configuration in a file of the format ``kind`` (None: found). Raises ConfigError that names the file."""
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: too large for a configuration ({path.stat().st_size:,} bytes)")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error.reason} at byte {error.start}") from None
    try:
        return check_places(FORMATS[kind or find_format(path, text)](text))
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def check_places(config: RepositoryConfig) -> RepositoryConfig:
    """The configuration, if every path in it means the same wherever the server is started. Raises ConfigError."""
    for model in config.models:
        if "://" not in model.path and not Path(model.path).expanduser().is_absolute():
            wrong = f"model {model.name!r}: the path {model.path!r} is relative: give an absolute path or a URL"
            raise ConfigError(wrong, "path")
    return config
