"""Every mistake of a configuration, in the order of its lines, before one error tells of all."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from tensorwire.servers.repository.config import ConfigError, ModelConfig
from tensorwire.servers.repository.places import Place, Places

__all__ = ["Check", "Mistakes", "make_model", "nearest", "no_check", "place_text"]

Check = Callable[[ModelConfig], Iterable[ConfigError]]
"""What else is wrong with a model that by itself is right."""


def no_check(model: ModelConfig) -> Iterable[ConfigError]:
    """Nothing is."""
    return ()


def nearest(word: str, words: Collection[str]) -> str:
    """In brackets, whether the one of the words was meant that is most like it; '' when none is."""
    found = difflib.get_close_matches(word, words, 1)
    return f" (did you mean {found[0]!r}?)" if found else ""


def make_model(fields: Mapping[str, Any], check: Check, mistakes: Sequence[ConfigError] = ()) -> ModelConfig:
    """A model of these fields, held against ``check``. Raises ConfigError with the mistakes that are known already and
    all others, for which what is right of a wrong model is checked, too.
    """
    found = list(mistakes)
    try:
        model = ModelConfig(**fields)
    except ConfigError as error:
        found += error.mistakes
        wrong = {one.field for one in error.mistakes}
        if "name" in wrong:
            raise ConfigError.of(found) from None
        if "labels" in wrong:  # who names one of those is not wrong
            wrong |= {"traffic", "shadow"}
        model = ModelConfig(**{"path": "/", **{name: value for name, value in fields.items() if name not in wrong}})
    found += check(model)
    if found:
        raise ConfigError.of(found)
    return model


class Mistakes:
    """Those of one text; ``keys`` are the text's names of fields of ModelConfig that it calls otherwise."""

    def __init__(self, places: Places, keys: Mapping[str, str] | None = None) -> None:
        self._places = places
        self._keys = keys or {}
        self._found: list[tuple[int, str, str]] = []

    def add(self, error: ConfigError | str, *place: str | int) -> None:
        """One, or all of an error, at the field of the place that the error names."""
        for one in error.mistakes if isinstance(error, ConfigError) else (ConfigError(error),):
            within = [part for part in (self._keys.get(one.field, one.field), one.item) if part]
            self.at(self._places.line(*place, *within), str(one), one.field)

    def at(self, line: int, text: str, field: str = "") -> None:
        """One whose line is known; 0 when it has none."""
        self._found.append((line, text, field))

    def add_repeated_names(self, models: Sequence[tuple[ModelConfig, Place]]) -> None:
        """Models under a name that another one has."""
        first: dict[str, Place] = {}
        for model, place in models:
            if model.name in first:
                line = self._places.line(*first[model.name])
                before = f" (the first is in line {line})" if line else ""
                self.add(ConfigError(f"two models have the name {model.name!r}{before}", "name"), *place)
            first.setdefault(model.name, place)

    def end(self) -> None:
        """Raises ConfigError, with 'line N: ' before each text that has a line, if there is a mistake."""
        if self._found:
            ordered = sorted(self._found, key=lambda one: (not one[0], one[0]))
            raise ConfigError.of([ConfigError(f"{place_text(line)}{text}", field) for line, text, field in ordered])


def place_text(line: int) -> str:
    """'line N: ', or '' for 0."""
    return f"line {line}: " if line else ""
