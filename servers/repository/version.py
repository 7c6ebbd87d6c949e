"""One version of a model, from the moment it is wanted until it is gone."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path

from tensorwire.servers.repository.layout import Stamp

__all__ = ["ModelVersion", "State"]


class State(StrEnum):
    """The states of TensorFlow Serving's ModelVersionStatus, by its names:
    https://github.com/tensorflow/serving/blob/master/tensorflow_serving/apis/get_model_status.proto
    """

    START = "START"
    LOADING = "LOADING"
    AVAILABLE = "AVAILABLE"
    UNLOADING = "UNLOADING"
    END = "END"


class ModelVersion:
    """A version's state and history. ``since``: time.time() at which each state that it had was last entered.

    ``error``: why it ended, or why its files' newer state is not served; '' when nothing is wrong. ``tried`` is the
    state of the files that were loaded last, with success or without.
    """

    __slots__ = ("error", "name", "number", "path", "since", "state", "tried")

    def __init__(self, name: str, number: int, path: Path) -> None:
        self.name = name
        self.number = number
        self.path = path
        self.state = State.START
        self.error = ""
        self.since = {State.START: time.time()}
        self.tried: Stamp | None = None

    @property
    def serves(self) -> bool:
        return self.state is State.AVAILABLE

    def enter(self, state: State, error: str = "") -> None:
        self.state = state
        self.error = error
        self.since[state] = time.time()

    def times(self) -> dict[str, float]:
        """``since`` with the states' plain names."""
        return {str(state): at for state, at in self.since.items()}
