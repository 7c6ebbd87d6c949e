"""What should be changed on a host, in sentences."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Final

from tensorwire.servers.doctor.builds import Host
from tensorwire.servers.doctor.floors import Copy, Trip

__all__ = ["advise"]

_ONEDNN: Final = "TF_ENABLE_ONEDNN_OPTS"
_LEAST_FILES: Final = 4096
_LEAST_BACKLOG: Final = 1024
_LEAST_BUFFER: Final = 4 << 20  # bytes, Linux' own limit for TCP where memory is not scarce
_LEAST_REACHED: Final = 0.5  # of the floor, at 77 MB
_SLOW_COPY: Final = 3e9  # bytes a second


def advise(host: Host, copy: Copy | None = None, trips: Sequence[Trip] = ()) -> list[str]:
    """One line for each thing that is off."""
    found = []
    if host.huge_pages == "never":
        found.append(
            "transparent huge pages are off, and fresh memory for large tensors costs more than the copy into it: "
            "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled"
        )
    if host.versions["uvloop"] is None:
        found.append(
            "uvloop is not installed and the server runs on asyncio's own loop: pip install 'tensorwire[serve]'"
        )
    found += _frameworks(host)
    for name in ("net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem"):
        most = host.buffers.get(name, "").split()[-1:]
        if most and int(most[0]) < _LEAST_BUFFER:
            found.append(
                f"{name.replace('/', '.')} ends at {int(most[0]):,} bytes, which slows large tensors over a network: "
                f'sysctl -w {name.replace("/", ".")}="4096 131072 {6 << 20}"'
            )
    if host.open_files < _LEAST_FILES:
        found.append(f"only {host.open_files:,} files may be open, which limits connections: ulimit -n 65536")
    if 0 < host.backlog < _LEAST_BACKLOG:
        found.append(f"bursts of connections are cut off at {host.backlog:,}: sysctl -w net.core.somaxconn=4096")
    if host.load > host.cores / 2:
        found.append(f"the host is busy (load {host.load:.1f} on {host.cores:g} cores): trust the figures less")
    if host.cores < 2:
        found.append("one core: client and server take turns, and latencies say little")
    return found + _speed(copy, trips)


def _frameworks(host: Host) -> list[str]:
    found = []
    gpu, cpu = host.versions["onnxruntime-gpu"], host.versions["onnxruntime"]
    if gpu and cpu:
        found.append(
            "onnxruntime and onnxruntime-gpu are both installed, and one hides the other: "
            "pip uninstall onnxruntime onnxruntime-gpu, then install one"
        )
    elif gpu and "CUDAExecutionProvider" not in host.providers:
        found.append("onnxruntime-gpu is installed, but finds no CUDA: see its page for the CUDA and cuDNN it needs")
    if cpu and not gpu and not host.providers:
        found.append("onnxruntime is installed, but cannot be imported: pip install --force-reinstall onnxruntime")
    for name, note in host.notes.items():
        if "oneDNN off" in note:
            asked = os.environ.get(_ONEDNN)
            remedy = f"unset {_ONEDNN}={asked}" if asked else f"{_ONEDNN}=1 switches it on where the build has it"
            found.append(f"{name}: {note}, which is slower on most processors; {remedy}")
    return found


def _speed(copy: Copy | None, trips: Sequence[Trip]) -> list[str]:
    found = []
    if copy is not None and copy.nbytes / copy.seconds < _SLOW_COPY:
        found.append(
            f"memory is copied at {copy.nbytes / copy.seconds / 1e9:.1f} GB/s: the host is busy, throttled or emulated"
        )
    slow = [trip for trip in trips if trip.size == "77 MB" and trip.reached < _LEAST_REACHED]
    found += [
        f"77 MB over {trip.transport}: echo reaches {trip.reached:.0%} of plain sockets; with a quiet host and huge "
        "pages it should be over 80 %"
        for trip in slow
    ]
    return found
