"""Hypothesis strategies for wire messages: what they may hold, and the layouts that hold it.

Messages are the oracle's dicts.
"""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np
import oracle
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from oracle import Layout, Message

unhurried = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def tensors(draw: st.DrawFn) -> Message:
    wire = draw(st.sampled_from([oracle.STRING, *oracle.WIRE_TYPES]))
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    count = prod(shape)
    if wire == oracle.STRING:
        strings = draw(st.lists(st.binary(max_size=5), min_size=count, max_size=count))
        return {"type": wire, "shape": shape, "strings": strings}
    size = count * oracle.WIRE_TYPES[wire].itemsize
    return {"type": wire, "shape": shape, "data": draw(st.randoms()).randbytes(size)}


KINDS: dict[str, st.SearchStrategy[Any]] = {
    "Type": st.integers(0, 18),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "[int64]": st.lists(st.integers(-1, 2**40), max_size=4),
    "string": st.text(max_size=6),
    "[string]": st.lists(st.text(max_size=6), max_size=3),
    "[Tensor]": st.lists(tensors(), max_size=3),
}
for name in ("Error", "IOMetadata"):
    table = st.fixed_dictionaries({key: KINDS[kind] for key, kind in oracle.TABLES[name].items()})
    KINDS[f"[{name}]"] = st.lists(table, max_size=3)


def messages(name: str) -> st.SearchStrategy[Message]:
    """Messages with any of their fields left out, and no regard for how those belong together."""
    fields = {key: KINDS[kind] for key, kind in oracle.TABLES[name].items()}
    return st.fixed_dictionaries({"message": st.just(name)}, optional=fields)


@st.composite
def valid_messages(draw: st.DrawFn, name: str | None = None) -> Message:
    """Messages that keep the contract: names distinct and in step with tensors, outputs or errors."""
    name = name or draw(st.sampled_from(["InferRequest", "MetadataRequest", "InferResponse", "MetadataResponse"]))
    message = draw(messages(name))
    for key in ("model_version", "deadline_ms"):
        if key in message:
            message[key] &= 2**63 - 1
    if message.get("errors"):
        message.pop("output_tensors", None)
    for prefix in ("input", "output"):
        count = len(message.get(f"{prefix}_tensors", []))
        if f"{prefix}_names" in message and (prefix == "input" or name == "InferResponse"):
            named = st.lists(st.text(max_size=6), min_size=count, max_size=count, unique=True)
            message[f"{prefix}_names"] = draw(named)
    return message


layouts = st.builds(
    Layout,
    order=st.fixed_dictionaries({name: st.permutations(list(keys)) for name, keys in oracle.TABLES.items()}),
    omit_empty=st.booleans(),
    force_defaults=st.booleans(),
    share_strings=st.booleans(),
    share_vtables=st.booleans(),
    data_alignment=st.sampled_from([1, 8, 64]),
    unknown_fields=st.integers(0, 2),
)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray[Any, Any]:
    """Arrays of every dtype of the wire, in any order in memory and of any byte order."""
    array = oracle.as_array(draw(tensors()))
    if array.ndim:
        array = array.transpose(draw(st.permutations(range(array.ndim))))
        array = array[tuple(slice(None, None, draw(st.sampled_from([1, -1, 2, -2]))) for _ in array.shape)]
    if draw(st.booleans()):
        array = np.broadcast_to(array, (draw(st.integers(0, 3)), *array.shape))
    if array.dtype.isbuiltin == 1 and draw(st.booleans()):
        array = array.astype(array.dtype.newbyteorder(">"), order=draw(st.sampled_from(["C", "F"])))
    if draw(st.booleans()):
        array = array.view()
        array.flags.writeable = False
    return array
