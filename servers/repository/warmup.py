"""Requests that a model answers before it takes any, so that the first caller does not wait for what is lazy."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tensorwire._decode import decode
from tensorwire._messages import Request, TensorSpec
from tensorwire.errors import DecodeError
from tensorwire.servers.check import Check
from tensorwire.servers.model import Array, Model, ModelError, RequestError, Signature, quoted
from tensorwire.servers.repository.tfrecord import read_records

__all__ = ["TFS_REQUESTS", "warm_up"]

TFS_REQUESTS = "assets.extra/tf_serving_warmup_requests"
"""Where TensorFlow Serving finds the requests of a SavedModel:
https://www.tensorflow.org/tfx/serving/saved_model_warmup
"""

_log = logging.getLogger("tensorwire.repository")
_MOST_VALUES = 1 << 24  # of a made input: a guess at a shape must not fill the memory
_MOST_REQUESTS = 1000  # as in TensorFlow Serving
_LARGEST_FILE = 1 << 30


def warm_up(model: Model, version: Path, file: Path) -> None:
    """Run a model with the requests that lie beside it, or with made ones when there are none.

    In a version's folder, and in the model's own (``file``), these are ``warmup.tw`` and ``warmup-*.tw``, written by
    tensorwire.save, and TensorFlow Serving's TFRecord file. They are the user's word of what the model takes: one that
    it does not answer means a broken version, and raises ModelError, as does a file that is damaged and the 1001st
    request.

    A made request is one of zeros, of the declared shapes (a free dimension is 1), for each signature. A signature
    that cannot be guessed (inputs undeclared, of unknown rank or of text) is left out, and one that fails on the guess
    is logged and not held against the model: it may be right to refuse zeros.
    """
    count = 0
    for place, request in _requests([folder for folder in dict.fromkeys((version, file)) if folder.is_dir()]):
        count += 1
        if count > _MOST_REQUESTS:
            raise ModelError(f"{place}: more than {_MOST_REQUESTS:,} requests for the warm-up")
        try:
            _answer(model, request)
        except Exception as error:
            reason = error.message if isinstance(error, RequestError) else f"{type(error).__name__}: {error}"
            raise ModelError(f"{place}: the warm-up failed: {' '.join(reason.split())}") from None
    if count:
        _log.info("%s: warmed up with the requests beside it: %d", version, count)
    else:
        _run_zeros(model, version)


def _requests(folders: list[Path]) -> Iterator[tuple[str, Request]]:
    """Requests, each with where it is from. Raises ModelError."""
    for folder in folders:
        for file in [folder / "warmup.tw", *sorted(folder.glob("warmup-*.tw")), folder / TFS_REQUESTS]:
            try:
                if file.is_file():
                    yield from _saved(file) if file.suffix == ".tw" else _logged(file)
            except OSError as error:
                raise ModelError(f"{file}: {error.strerror or error}") from None


def _saved(file: Path) -> Iterator[tuple[str, Request]]:
    with file.open("rb") as opened:
        data = opened.read(_LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise ModelError(f"{file}: larger than {_LARGEST_FILE:,} bytes")
    try:
        message = decode(data)
    except DecodeError as error:
        raise ModelError(f"{file}: no request saved by tensorwire.save: {error}") from None
    if not isinstance(message, Request):
        raise ModelError(f"{file}: a request is needed, not one for metadata")
    yield str(file), message


def _logged(file: Path) -> Iterator[tuple[str, Request]]:
    from tensorwire.servers.repository.prediction_log import read_prediction  # and the packages that it needs

    skipped = 0
    for number, record in enumerate(read_records(file), 1):
        if number > _MOST_REQUESTS:
            raise ModelError(f"{file}: more than {_MOST_REQUESTS:,} records")
        place = f"{file}: record {number}"
        try:
            request = read_prediction(record)
        except ValueError as error:
            raise ModelError(f"{place}: {error}") from None
        if request is None:
            skipped += 1
        else:
            yield place, request
    if skipped:
        _log.info("%s: %d records that are no Predict calls are left out", file, skipped)


def _answer(model: Model, request: Request) -> None:
    name = request.signature or model.default_signature
    signature = model.signatures.get(name)
    if signature is None:
        raise RequestError(404, f"the model has no signature {quoted(name)}")
    check = Check(signature, exact=model.exact)
    asked = check.asked(request.outputs)
    check.results(model.run(name, check.feeds(request.inputs), asked), asked)


def _run_zeros(model: Model, path: Path) -> None:
    for signature in model.signatures.values():
        inputs = _zeros(signature)
        if inputs is None:
            continue
        outputs = tuple(spec.name for spec in signature.outputs)
        try:
            model.run(signature.name, inputs, outputs)
        except Exception as error:
            reason = " ".join(str(error).split())
            _log.warning("%s: warm-up of %r with zeros failed: %s", path, signature.name, reason)


def _zeros(signature: Signature) -> dict[str, Array] | None:
    if signature.any_inputs:
        return None
    inputs = {}
    for spec in signature.inputs:
        array = _zero(spec)
        if array is None:
            return None
        inputs[spec.name] = array
    return inputs


def _zero(spec: TensorSpec) -> Array | None:
    dtype = spec.dtype
    # An empty shape may be a scalar or an undeclared rank.
    if dtype is None or dtype.kind == "O" or not spec.shape:
        return None
    shape = tuple(size if size >= 0 else 1 for size in spec.shape)
    return np.zeros(shape, dtype) if np.prod(shape, dtype=np.float64) <= _MOST_VALUES else None
