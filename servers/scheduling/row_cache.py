"""A model whose results are kept row by row, so that rows which were computed before are not computed again."""

from __future__ import annotations

import hashlib
import json
import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from tensorwire import Response, TensorwireError, decode, encode
from tensorwire.servers.model import Array, Model, Signature
from tensorwire.servers.scheduling.row_store import RowStore

__all__ = ["LARGEST", "CachedModel", "identity"]

LARGEST = 4 << 30
"""Bytes of disk for the rows of a folder, unless the caller says otherwise."""

_log = logging.getLogger("tensorwire.cache")

_BYTES, _TEXT = b"b", b"t"  # what the strings of a value are in Python


class CachedModel(Model):
    """Runs ``model`` for the rows alone that ``store`` does not have, each of them once a request, in their order.

    The model's outputs must depend on its inputs alone, and each row of them on the same row of the inputs: no random
    numbers, no state, nothing in common to a batch. How a library rounds may depend on how many rows it is given, so
    the last bits of a float can be those of another batch.

    Rows are known by ``model_id`` (see ``identity``), the signature, the names of the outputs asked for, and the
    names, dtypes, shapes and bytes of the row in all inputs. A request is run whole, and nothing of it is kept, when
    its tensors have no first dimension in common which the signature leaves open (or has as 1), and from when on an
    output turned out not to have it. The first request of several rows is run whole, to see that.

    ``hits`` and ``misses`` count rows, those twice in a request as hits. Closing this closes the store, too.
    """

    def __init__(self, model: Model, store: RowStore, model_id: str) -> None:
        self._model = model
        self._store = store
        self._id = model_id
        self._lock = threading.Lock()
        self._unfit: set[str] = set()
        self._rowwise: set[tuple[str, str]] = set()
        self.hits = 0
        self.misses = 0
        self.name = model.name
        self.version = model.version
        self.description = model.description
        self.engine = model.engine
        self.signatures = model.signatures
        self.default_signature = model.default_signature
        self.concurrency = model.concurrency
        self.exact = model.exact
        self.device = model.device
        self.facts = MappingProxyType({**model.facts, "row cache": str(store.path)})

    @property
    def ready(self) -> bool:
        return self._model.ready

    @property
    def status(self) -> str:
        store = self._store
        own = f"row cache: {self.hits} hits, {self.misses} misses, {store.stored} stored, {store.dropped} not stored"
        return f"{self._model.status}; {own}" if self._model.status else own

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        names = tuple(dict.fromkeys(outputs))
        keys = None if signature in self._unfit else self._keys(self.signatures[signature], inputs, names)
        if keys is None:
            return self._model.run(signature, inputs, outputs)
        first: dict[bytes, int] = {}
        for row, key in enumerate(keys):
            first.setdefault(key, row)
        found: dict[bytes, tuple[Array, ...]] = {}
        proven = len(keys) == 1 or self._has_rows(signature, names)
        if proven:
            for key, value in self._store.get(list(first)).items():
                arrays = _unpacked(value, names)
                if arrays is not None:
                    found[key] = arrays
        missing = [key for key in first if key not in found] if proven else keys
        with self._lock:
            self.hits += len(keys) - len(missing)
            self.misses += len(missing)
        computed: Mapping[str, Array] = {}
        if missing:
            whole = len(missing) == len(keys)
            rows = [first[key] for key in missing]
            part = inputs if whole else {name: array[rows] for name, array in inputs.items()}
            computed = self._model.run(signature, part, names)
            kept = self._keep(signature, names, missing, computed)
            if whole:
                return computed
            if not kept:
                return self._model.run(signature, inputs, outputs)
        joined = {name: _joined(keys, found, i, missing, computed.get(name)) for i, name in enumerate(names)}
        results = {name: array for name, array in joined.items() if array is not None}
        return results if len(results) == len(joined) else self._model.run(signature, inputs, outputs)

    def close(self) -> None:
        self._store.close()
        self._model.close()

    def _has_rows(self, signature: str, names: Sequence[str]) -> bool:
        """A run of several rows has shown that these outputs have as many: what one row gives does not tell."""
        unknown = [name for name in names if (signature, name) not in self._rowwise]
        if unknown:
            proofs = {self._proof(signature, name): name for name in unknown}
            self._rowwise |= {(signature, proofs[key]) for key in self._store.get(list(proofs))}
        return all((signature, name) in self._rowwise for name in unknown)

    def _proof(self, signature: str, name: str) -> bytes:
        return bytes(self._store.digest(json.dumps(["has rows", self._id, signature, name]).encode()).digest())

    def _keep(self, signature: str, names: Sequence[str], keys: Sequence[bytes], computed: Mapping[str, Any]) -> bool:
        """Store rows that were computed; False when the outputs are not made of them."""
        values = _packed(keys, computed, names)
        if values is None:
            self._unfit.add(signature)
            _log.info("model %r: results of %r are not kept, they are not made of rows", self.name, signature)
            return False
        if len(keys) > 1:
            new = [name for name in names if (signature, name) not in self._rowwise]
            self._rowwise |= {(signature, name) for name in new}
            values |= {self._proof(signature, name): b"" for name in new}
        self._store.put(values)
        return True

    def _keys(self, signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[bytes] | None:
        """The key of each row; None when the request has no rows."""
        rows = _count(signature, inputs, outputs)
        if not rows:
            return None
        about: list[Any] = [self._id, signature.name, list(outputs)]
        parts: list[tuple[memoryview, int] | Array] = []
        for name, array in inputs.items():
            about.append([name, array.dtype.name, array.dtype.str, array.shape[1:]])
            if array.dtype.hasobject:
                parts.append(array)
            else:
                flat = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
                parts.append((flat.data, flat.nbytes // rows))
        start = self._store.digest(json.dumps(about).encode())
        keys = []
        for row in range(rows):
            hasher = start.copy()
            for part in parts:
                if isinstance(part, tuple):
                    data, nbytes = part
                    hasher.update(data[row * nbytes : (row + 1) * nbytes])
                else:
                    text = _text(part[row])
                    if text is None:
                        return None
                    hasher.update(text)
            keys.append(hasher.digest())
        return keys


def identity(path: Path, options: Mapping[str, Any], engine: str) -> str:
    """What a model is, so that another one's rows are never taken for its own: a digest in hexadecimal.

    Of a file, its bytes count, and of an ONNX model the names, sizes and times of the files beside it, which may hold
    its weights; of a folder, the names, sizes and times of all files in it. ``options`` are the engine's (the bytes of
    files that they name count), ``engine`` its name and version. Raises OSError.
    """
    about: list[Any] = [engine]
    for name, value in (("", path), *sorted(options.items())):
        about.append([name, str(value)])
        file = Path(str(value))
        if len(str(value)) < 4096 and file.is_file():
            with file.open("rb") as opened:
                about.append(hashlib.file_digest(opened, "sha256").hexdigest())
    inside = path.rglob("*") if path.is_dir() else path.parent.iterdir() if path.suffix == ".onnx" else ()
    for file in sorted(inside):
        if file.is_file():
            state = file.stat()
            about.append([str(file), state.st_size, state.st_mtime_ns])
    return hashlib.sha256(json.dumps(about).encode()).hexdigest()


def _count(signature: Signature, inputs: Mapping[str, Array], outputs: Sequence[str]) -> int:
    """How many rows the inputs have in common; 0 when they have none."""
    specs = {spec.name: spec.shape for spec in signature.outputs}
    shapes = [spec.shape for spec in signature.inputs] + [specs.get(name, ()) for name in outputs]
    if not inputs or not outputs or not all(shape and shape[0] in (-1, 1) for shape in shapes):
        return 0
    counts = {array.shape[0] if array.ndim else 0 for array in inputs.values()}
    count = counts.pop() if len(counts) == 1 else 0
    return count if count == 1 or all(shape[0] == -1 for shape in shapes) else 0


def _text(row: Any) -> bytes | None:
    """The strings of one row, so that no two rows give the same bytes; None when there is anything else."""
    parts = []
    for item in np.asarray(row, object).reshape(-1):
        if isinstance(item, bytes):
            parts.append(b"b%d:%b" % (len(item), item))
        elif isinstance(item, str):
            data = item.encode("utf-8", "surrogatepass")
            parts.append(b"t%d:%b" % (len(data), data))
        else:
            return None
    return b"".join(parts)


def _packed(keys: Sequence[bytes], computed: Mapping[str, Any], outputs: Sequence[str]) -> dict[bytes, bytes] | None:
    """Values to store for rows that were computed; None when the outputs are not made of as many rows."""
    arrays: list[Array] = []
    kinds = set()
    for name in outputs:
        array = computed.get(name)
        if not isinstance(array, np.ndarray) or not array.ndim or array.shape[0] != len(keys):
            return None
        arrays.append(array)
        if array.dtype.hasobject:
            kinds |= {type(item) for item in array.flat}
    if len(kinds) > 1 or not kinds <= {bytes, str}:
        return None
    mark = _TEXT if str in kinds else _BYTES
    try:
        values = {
            key: mark + bytes(encode(Response({n: a[row : row + 1] for n, a in zip(outputs, arrays, strict=True)})))
            for row, key in enumerate(keys)
        }
    except (TensorwireError, UnicodeError):
        return None
    back = _unpacked(values[keys[0]], outputs)
    if back is None or any(a.dtype != b.dtype for a, b in zip(arrays, back, strict=True)):
        return None
    return values


def _unpacked(value: bytes, outputs: Sequence[str]) -> tuple[Array, ...] | None:
    """The outputs of one row, in order, each with a first dimension of 1; views of ``value``."""
    try:
        found = decode(memoryview(value)[1:], Response, as_str=value[:1] == _TEXT).outputs
    except TensorwireError:
        return None
    return found.arrays if found.names == tuple(outputs) else None


def _joined(
    keys: Sequence[bytes],
    found: Mapping[bytes, tuple[Array, ...]],
    index: int,
    missing: Sequence[bytes],
    computed: Array | None,
) -> Array | None:
    """One output of the whole request, new memory; None when its rows have different shapes or dtypes."""
    parts = {key: arrays[index] for key, arrays in found.items()}
    if computed is not None:
        parts |= {key: computed[row : row + 1] for row, key in enumerate(missing)}
    rows = [parts[key] for key in keys]
    if len({(row.shape, row.dtype) for row in rows}) > 1:
        return None
    return np.concatenate(rows)
