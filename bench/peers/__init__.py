"""What a user would pick instead: one file a peer, each loaded only when it is measured."""

from __future__ import annotations

from importlib import import_module
from typing import Final

from bench.peers.peer import Peer

OURS: Final = "tensorwire"
ORIGINAL: Final = "graphpipe (original)"

_FILES: Final = {
    OURS: "ours:Buffers",
    "tensorwire, bytes()": "ours:Bytes",
    "tensorwire, write_into": "ours:Pooled",
    ORIGINAL: "graphpipe_original:GraphPipe",
    "protobuf tensor_content": "protobuf_predict:TensorContent",
    "protobuf float_val": "protobuf_predict:FloatVal",
    "ujson": "ujson_text:Ujson",
    "orjson": "orjson_text:Orjson",
    "pyarrow IPC tensor": "arrow_ipc:ArrowTensor",
    "safetensors": "safe_tensors:SafeTensors",
    "pickle 5 in band": "pickle_five:InBand",
    "pickle 5 out of band": "pickle_five:OutOfBand",
    "msgpack-numpy": "msgpack_arrays:MsgpackNumpy",
}

NAMES: Final = tuple(_FILES)
DISTRIBUTIONS: Final = (
    "graphpipe",
    "flatbuffers",
    "protobuf",
    "ujson",
    "orjson",
    "pyarrow",
    "safetensors",
    "msgpack",
    "msgpack-numpy",
)


def load(name: str) -> Peer:
    """The peer of that name; raises ModuleNotFoundError when its package is not installed."""
    file, _, cls = _FILES[name].partition(":")
    peer = getattr(import_module(f"bench.peers.{file}"), cls)()
    assert isinstance(peer, Peer)
    return peer
