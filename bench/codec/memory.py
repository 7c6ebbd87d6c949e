"""What decoding takes beyond the message, at its peak: ``python -m bench.codec.memory PEER SIZE``.

In a process of its own, and by two measures: what Python's and numpy's allocators handed out (tracemalloc),
and by how much the resident set grew (VmHWM, which also sees allocators that tracemalloc does not; the kernel
counts it in batches of pages, so a few hundred kB of it may be noise).
"""

from __future__ import annotations

import gc
import json
import sys
import tracemalloc
import warnings
from typing import Any

from bench.peers import load
from bench.peers.peer import Peer
from bench.status import peak, reset_peak, resident
from bench.workload import tensors


def _message(peer: Peer, size: str) -> Any:
    """As it came over a wire: the arrays that it was made of are gone when decoding is measured."""
    return peer.received(peer.encode(tensors(size)))


def measure(name: str, size: str) -> dict[str, int]:
    """Bytes: of the message, traced and resident beyond it while it is decoded and the arrays are held."""
    peer = load(name)
    peer.decode(_message(peer, "4 kB"))
    message = _message(peer, size)
    gc.collect()
    reset_peak()
    before = resident()
    arrays = peer.decode(message)
    grown = peak() - before
    del arrays
    gc.collect()
    tracemalloc.start()
    held = tracemalloc.get_traced_memory()[0]
    arrays = peer.decode(message)
    traced = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    del arrays
    return {"message": peer.nbytes(message), "traced": traced, "resident": max(grown, 0)}


if __name__ == "__main__":
    warnings.simplefilter("ignore", DeprecationWarning)
    print(json.dumps(measure(*sys.argv[1:])))
