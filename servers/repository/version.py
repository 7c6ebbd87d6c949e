"""One version of a model, from the moment it is wanted until it is gone."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path

from tensorwire.servers.model import Model
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

    ``error``: why it ended, why its files' newer state is not served, or why it is not in memory; '' when nothing is
    wrong. ``tried`` is the state of the files that were loaded last, with success or without. ``measured``: bytes that
    it took when it was loaded last (0: never); ``loaded``: time.perf_counter() then. ``short``: bytes that it would
    need to be loaded, when there was no room for them. ``resting``: whoever asks for it has it loaded.
    """

    __slots__ = (
        "_model",
        "error",
        "loaded",
        "measured",
        "name",
        "number",
        "path",
        "resting",
        "short",
        "since",
        "state",
        "tried",
    )

    def __init__(self, name: str, number: int, path: Path) -> None:
        self.name = name
        self.number = number
        self.path = path
        self.state = State.START
        self.error = ""
        self.since = {State.START: time.time()}
        self.tried: Stamp | None = None
        self.measured = 0
        self.loaded = 0.0
        self.short = 0
        self.resting = False
        self._model: Model | None = None

    @property
    def serves(self) -> bool:
        return self.state is State.AVAILABLE

    @property
    def asleep(self) -> bool:
        """It is not in memory, and is loaded when it is asked for."""
        return self.resting and self.state is State.START

    @property
    def ready(self) -> bool:
        """It serves, or will when it is asked for."""
        return self.serves or self.asleep

    @property
    def nbytes(self) -> int:
        """Bytes that it takes in memory now."""
        if self._model is None:
            return 0
        memory = self._model.memory
        return self.measured if memory is None else memory

    @property
    def engine(self) -> str:
        """What runs it; '' while it is not in memory."""
        return self._model.engine if self._model is not None else ""

    def expected(self, stamp: Stamp) -> int:
        """Bytes that it will take, for all that is known: as much as the last time, else as its files have."""
        return self.measured or stamp.nbytes

    def take(self, model: Model, nbytes: int, path: Path) -> None:
        """It serves, with this model, which takes so many bytes."""
        self._model, self.measured, self.path, self.resting = model, nbytes, path, False
        self.loaded = time.perf_counter()
        self.enter(State.AVAILABLE)

    def drop(self) -> None:
        """Its model has been closed."""
        self._model = None

    def enter(self, state: State, error: str = "") -> None:
        self.state = state
        self.error = error
        self.since[state] = time.time()

    def times(self) -> dict[str, float]:
        """``since`` with the states' plain names."""
        return {str(state): at for state, at in self.since.items()}
