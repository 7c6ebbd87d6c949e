"""Keras models: .keras archives, and the older .h5 files.

https://keras.io/guides/serialization_and_saving/
"""

from __future__ import annotations

import json
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import ALLOW_PICKLE
from tensorwire.servers.engines.tf.graph import check_channels_first
from tensorwire.servers.engines.tf.model import Call, plain, prepare
from tensorwire.servers.engines.tf.runtime import Runtime
from tensorwire.servers.model import DEFAULT_SIGNATURE, ModelError

__all__ = ["load_keras"]

_LAMBDA = re.compile(rb'"class_name":\s*"Lambda"')


def load_keras(
    runtime: Runtime, path: Path, *, allow_pickle: bool, xla: bool
) -> tuple[dict[str, Call], dict[str, str]]:
    """The one signature of a Keras model, for inference, and what its file says.

    Lambda layers hold code of the model's maker, so they are read with ``allow_pickle`` alone. Raises ModelError: not a
    Keras file, a layer that is not Keras's own, no declared inputs.
    """
    facts, unsafe = _facts(path)
    if unsafe and not allow_pickle:
        raise ModelError(
            f"{path}: it has a Lambda layer, which runs code from the file; if you trust its maker: {ALLOW_PICKLE}"
        )
    model = _load(runtime, path, facts, allow_pickle)
    tf = runtime.tf
    inputs = {tensor.name: tf.TensorSpec(tensor.shape, tensor.dtype) for tensor in getattr(model, "inputs", None) or ()}
    if not inputs:
        raise ModelError(f"{path}: the model does not say what its inputs are: save it after it was built or called")
    shape = _structure(model)
    results: list[Any] = []

    def compute(*tensors: Any) -> list[Any]:
        found = model(tensors[0] if shape is None else tf.nest.pack_sequence_as(shape, tensors), training=False)
        results[:] = [found]
        return list(tf.nest.flatten(found))

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        compute_once = tf.function(compute, autograph=False).get_concrete_function(*inputs.values())
    outputs = dict.fromkeys(_output_names(model, results[0], len(compute_once.outputs)))
    call = prepare(runtime, DEFAULT_SIGNATURE, inputs, outputs, compute_once, xla=xla, owner=model)
    check_channels_first(runtime, path, compute_once.graph.as_graph_def().node)
    facts["weights"] = f"{model.count_params():,}"
    return {DEFAULT_SIGNATURE: call}, facts


def _load(runtime: Runtime, path: Path, facts: Mapping[str, str], allow_pickle: bool) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import keras

        if keras.backend.backend() != "tensorflow":
            raise ModelError(f"{path}: KERAS_BACKEND is {keras.backend.backend()!r}; it must be 'tensorflow' or unset")
        try:
            with runtime.placed():
                return keras.models.load_model(path, compile=False, safe_mode=not allow_pickle)
        except Exception as error:
            written = facts.get("written by", "")
            by = f" (written by {written})" if written else ""
            raise ModelError(f"{path}: Keras {keras.__version__} cannot load it{by}: {_first(error)}") from error


def _structure(model: Any) -> Any:
    """How the model wants its inputs: a list, a dict; None for one tensor."""
    try:
        return model.input if isinstance(model.input, list | tuple | dict) else None
    except AttributeError:  # a Sequential that was loaded has none, and takes one tensor
        return None


def _output_names(model: Any, found: Any, count: int) -> list[str]:
    """The keys of a dict, the names of the layers that give them, or 'output_0', ..., as exported models have."""
    if isinstance(found, Mapping):
        return sorted(found)
    names = list(getattr(model, "output_names", None) or ())
    if not names and count == 1 and getattr(model, "layers", None):
        names = [model.layers[-1].name]
    return names if len(set(names)) == count else [f"output_{i}" for i in range(count)]


def _facts(path: Path) -> tuple[dict[str, str], bool]:
    """What the file says of itself, and whether it has a Lambda layer. Raises ModelError when it is no Keras file."""
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                config, about = archive.read("config.json"), json.loads(archive.read("metadata.json"))
            return _about("Keras archive", about.get("keras_version")), _LAMBDA.search(config) is not None
        import h5py

        with h5py.File(path, "r") as file:
            config, version = file.attrs.get("model_config"), file.attrs.get("keras_version")
        if config is None:
            raise ModelError(
                f"{path}: the file has weights alone, without the model: save the whole model with model.save"
            )
        data = config if isinstance(config, bytes) else str(config).encode()
        return _about("Keras HDF5 file", version), _LAMBDA.search(data) is not None
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(f"{path}: not a Keras model, or cut short: {_first(error)}") from error


def _about(kind: str, version: Any) -> dict[str, str]:
    return {"format": kind, "written by": f"Keras {version}" if version else ""}


def _first(error: BaseException) -> str:
    """The error's first sentence: Keras adds the whole configuration to it."""
    return plain(error).partition(". ")[0][:300]
