"""What configurations of other servers cannot say: left out and told, or refused if models would answer otherwise."""

from __future__ import annotations

from tensorwire.servers.repository.config import ConfigError, ModelConfig, RepositoryConfig

__all__ = ["check_routes", "left_out"]

_FIELDS = ("settle", "ready_file", "transition", "attempts", "warm_up", "pinned")


def check_routes(model: ModelConfig, whose: str) -> None:
    """No other server divides or copies requests. Raises ConfigError when the model's are."""
    if model.traffic.weights or model.shadow is not None:
        raise ConfigError(f"model {model.name!r}: {whose}'s format has no place for traffic and shadow")


def left_out(config: RepositoryConfig) -> list[str]:
    """Of the default and of each model's fields, what the others have no word for."""
    remarks = []
    if config.default and config.default != config.models[0].name:
        remarks.append(f"default = {config.default!r} is left out: the first model is the default of what is written")
    for model in config.models:
        usual = ModelConfig(name=model.name, path=model.path)
        remarks += [
            f"model {model.name!r}: {name} = {getattr(model, name)!r} is left out"
            for name in _FIELDS
            if getattr(model, name) != getattr(usual, name)
        ]
    return remarks
