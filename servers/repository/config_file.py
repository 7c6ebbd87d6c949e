"""Reading a configuration file, whichever of the formats it is in."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

from tensorwire.servers.engines.registry import engine_names
from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig
from tensorwire.servers.repository.mistakes import Check, nearest
from tensorwire.servers.repository.source import is_remote
from tensorwire.servers.repository.sts_file import read_sts
from tensorwire.servers.repository.tfs_file import read_tfs
from tensorwire.servers.repository.toml_file import read_toml

__all__ = ["FORMATS", "check_places", "find_format", "load_config", "read_config", "read_text"]

FORMATS: dict[str, Callable[[str, Check], RepositoryConfig]] = {"toml": read_toml, "tfs": read_tfs, "sts": read_sts}
"""Ours, TensorFlow Serving's text protocol buffer, simple_tensorflow_serving's JSON."""

_LARGEST = 16 << 20  # bytes: a configuration is written by people, or for them
_log = logging.getLogger("tensorwire.repository")


def find_format(path: Path, text: str) -> str:
    """'toml', 'sts' or 'tfs', by the file's suffix and, without a telling one, by how the text begins."""
    suffix = path.suffix.lower()
    if suffix in (".toml", ".json"):
        return {".toml": "toml", ".json": "sts"}[suffix]
    return "sts" if text.lstrip().startswith("{") else "tfs"


def read_config(path: Path, kind: str | None = None) -> RepositoryConfig:
    """The configuration in a file of the format ``kind`` (None: found).

    Raises ConfigError with every mistake; it names the file.
    """
    try:
        if path.stat().st_size > _LARGEST:
            raise ConfigError(f"{path}: too large for a configuration ({path.stat().st_size:,} bytes)")
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not text in UTF-8: {error.reason} at byte {error.start}") from None
    try:
        return read_text(text, kind or find_format(path, text))
    except ConfigError as error:
        single = [ConfigError(f"{path}: {one}", one.field) for one in error.mistakes]
        raise ConfigError(f"{path}: {error}", error.field, mistakes=single) from None


def read_text(text: str, kind: str = "toml") -> RepositoryConfig:
    """The configuration in a text. Raises ConfigError with every mistake, those that ``check_places`` finds among them,
    each with its line.
    """
    return FORMATS[kind](text, _check())


def load_config(path: Path) -> RepositoryConfig:
    """``read_config`` for a server: what has no effect is logged. Raises ConfigError."""
    config = read_config(path)
    for remark in config.remarks:
        _log.warning("%s: %s", path, remark)
    return config


def check_places(config: RepositoryConfig) -> RepositoryConfig:
    """The configuration, if every path in it means the same wherever the server is started, and the engines and the
    versions that labels name can be there. Raises ConfigError.
    """
    check = _check()
    mistakes = [wrong for model in config.models for wrong in check(model)]
    if mistakes:
        raise ConfigError.of(mistakes)
    return config


def _check() -> Check:
    """Looks for the engines once, when the first model names one: that takes some ms."""
    return partial(_wrong, cache(engine_names))


def _wrong(engine_names: Callable[[], tuple[str, ...]], model: ModelConfig) -> Iterator[ConfigError]:
    if not is_remote(model.path) and not Path(model.path).expanduser().is_absolute():
        wrong = f"model {model.name!r}: the path {model.path!r} is relative: give an absolute path or a URL"
        yield ConfigError(wrong, "path")
    if model.engine is not None and model.engine not in (engines := engine_names()):
        near = nearest(model.engine, engines)
        wrong = f"model {model.name!r}: unknown engine {model.engine!r}{near}: there are {', '.join(engines)}"
        yield ConfigError(wrong, "engine")
    for label, number in model.labels.items():
        if model.policy.specific and number not in model.policy.specific:
            served = ", ".join(map(str, model.policy.specific))
            wrong = f"model {model.name!r}: label {label!r} names version {number}, but only {served} are served"
            yield ConfigError(wrong, "labels", label)
