"""Outputs that ONNX Runtime writes into our Chunks, where that is faster than memory of its own.

A Chunk of 2 MiB or more has huge pages and comes warm from the pool: from 4 MB up a run took 2 to 20 % less time, below
it took more (bench/NOTES.md). The place has to be known before the run, so shapes are those that the file declares, in
sizes or in names that inputs have too, or those of a run before with inputs of the same shapes.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorwire._memory import Chunk
from tensorwire.servers.engines.ort.values import view
from tensorwire.servers.model import Array

__all__ = ["LARGE", "Binder"]

LARGE = 4_000_000
"""Bytes of an output from which it is bound."""

_MOST_KEYS = 8  # sets of input shapes that are remembered: the pool is warm for few sizes, the arena for any

Promise = tuple[int | tuple[str, int], ...]
"""The sizes of an output: each a number, or an input's name and the axis of it that has the same size."""
Key = tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]
Shapes = dict[str, tuple[int, ...]]


class Binder:
    """Runs a session; safe in any number of threads. ``dtypes`` are those of the outputs, by name.

    What the file declares may be wrong: ONNX Runtime refuses a place of another shape than the output's, the run is
    made again without, and that declaration is not believed again.

    ``large``: bytes from which outputs are bound. ``device``: where the session computes, 'cpu' or 'cuda:0'; there
    inputs are sent before the run, and outputs that are not bound fetched after it.
    """

    def __init__(
        self, session: Any, dtypes: Mapping[str, np.dtype[Any]], *, device: str = "cpu", large: int = LARGE
    ) -> None:
        import onnxruntime as ort

        self._session = session
        self._dtypes = dtypes
        self._large = large
        self._values: Any = ort.OrtValue
        kind, _, number = device.partition(":")
        self._remote = None if kind == "cpu" else (kind, int(number or 0))
        self._known: dict[Key, Shapes] = {}
        self._changing: set[str] = set()
        self._promised = promises(session.get_inputs(), session.get_outputs(), dtypes, large)
        self._lock = threading.Lock()

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """The outputs by name, as arrays over Chunks or over ONNX Runtime's memory, which live as long as they do.

        Raises what ``session.run`` raises.
        """
        learned = self._known.get(_key(feeds, outputs)) if self._known else None
        foreseen = self._foreseen(feeds, outputs) if learned is None and self._promised else {}
        shapes = learned or foreseen
        found = self._bound(feeds, outputs, shapes) if shapes else None
        if found is not None and learned:
            return found
        if found is None:
            found = dict(zip(outputs, self._plain(feeds, outputs), strict=True))
            # It runs without binding: an output has another shape this time, so that it cannot be foreseen.
            changed = [name for name, shape in shapes.items() if found[name].shape != shape] or list(shapes)
            if learned:
                self._changing.update(changed)
            elif changed:
                self._promised = {name: sizes for name, sizes in self._promised.items() if name not in changed}
            foreseen = {}
        for name, array in found.items():
            if array.nbytes >= self._large and name not in self._changing and name not in foreseen:
                self._learn(_key(feeds, outputs), found)
                break
        return found

    def _foreseen(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> Shapes:
        """The shapes of those large outputs whose sizes are declared, or are sizes of these inputs."""
        found = {}
        for name in outputs:
            promise = self._promised.get(name)
            if promise is None:
                continue
            shape = tuple([size if isinstance(size, int) else feeds[size[0]].shape[size[1]] for size in promise])
            if math.prod(shape) * self._dtypes[name].itemsize >= self._large:
                found[name] = shape
        return found

    def _plain(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        arrays: list[Array]
        if self._remote is None:
            arrays = self._session.run(outputs, feeds)
            return arrays
        binding = self._session.io_binding()
        self._bind_inputs(binding, feeds)
        for name in outputs:
            binding.bind_output(name, *self._remote)
        self._session.run_with_iobinding(binding)
        arrays = binding.copy_outputs_to_cpu()
        return arrays

    def _bound(self, feeds: Mapping[str, Array], outputs: Sequence[str], shapes: Shapes) -> dict[str, Array] | None:
        """None when the run failed: a run without binding tells whether the shapes were to blame, or the values."""
        binding = self._session.io_binding()
        self._bind_inputs(binding, feeds)
        found: dict[str, Array] = {}
        names = list(dict.fromkeys(outputs))
        for name in names:
            shape, dtype = shapes.get(name), self._dtypes[name]
            if shape is None or name in self._changing:
                binding.bind_output(name)
                continue
            chunk = Chunk(math.prod(shape) * dtype.itemsize)
            found[name] = np.frombuffer(memoryview(chunk), dtype).reshape(shape)
            binding.bind_output(name, "cpu", 0, dtype, shape, chunk.address)
        try:
            self._session.run_with_iobinding(binding)
        except RuntimeError:
            return None
        values = zip(names, binding.get_outputs(), strict=True)
        return {name: found[name] if name in found else view(value, self._dtypes[name]) for name, value in values}

    def _bind_inputs(self, binding: Any, feeds: Mapping[str, Array]) -> None:
        for name, x in feeds.items():
            value = self._values.ortvalue_from_numpy(x, *(self._remote or ()))
            binding.bind_ortvalue_input(name, value)

    def _learn(self, key: Key, found: Mapping[str, Array]) -> None:
        shapes = {
            name: array.shape
            for name, array in found.items()
            if array.nbytes >= self._large and name not in self._changing
        }
        with self._lock:
            while len(self._known) >= _MOST_KEYS:
                del self._known[next(iter(self._known))]
            self._known[key] = shapes


def promises(
    inputs: Sequence[Any], outputs: Sequence[Any], dtypes: Mapping[str, np.dtype[Any]], large: int
) -> dict[str, Promise]:
    """The declared sizes of outputs by name, from the NodeArgs of a session: of those that say all of them, in numbers
    or in names that a dimension of an input has, and that can be ``large`` bytes.
    """
    axes: dict[str, tuple[str, int]] = {}
    for arg in inputs:
        for axis, size in enumerate(arg.shape):
            if isinstance(size, str):
                axes.setdefault(size, (arg.name, axis))
    found: dict[str, Promise] = {}
    for arg in outputs:
        sizes = [axes.get(size) if isinstance(size, str) else size for size in arg.shape]
        numbers = [size for size in sizes if isinstance(size, int)]
        known = [size for size in sizes if isinstance(size, tuple) or (size is not None and size > 0)]
        if not sizes or len(known) < len(sizes) or arg.name not in dtypes:
            continue
        if len(numbers) < len(sizes) or math.prod(numbers) * dtypes[arg.name].itemsize >= large:
            found[arg.name] = tuple(known)
    return found


def _key(feeds: Mapping[str, Array], outputs: Sequence[str]) -> Key:
    return tuple(outputs), tuple([x.shape for x in feeds.values()])
