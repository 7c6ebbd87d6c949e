"""Which builds of what are in use, and how the system is set."""

from __future__ import annotations

import os
import platform
import re
import resource
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Final

__all__ = ["Host", "look", "tensorflow_build"]

_FRAMEWORKS: Final = ("onnxruntime", "onnxruntime-gpu", "tensorflow", "tensorflow-cpu", "torch")
_LIBRARIES: Final = ("tensorwire", "numpy", "uvloop", "httptools")
_BUFFERS: Final = ("net/core/rmem_max", "net/core/wmem_max", "net/ipv4/tcp_rmem", "net/ipv4/tcp_wmem")

_TENSORFLOW: Final = "from tensorwire.servers.engines.tf.runtime import main; main()"
_PATIENCE: Final = 60.0  # seconds


class Host:
    """The host as it was found.

    ``versions`` are those of installed distributions (None: not installed), ``notes`` what else is known of some,
    ``providers`` ONNX Runtime's execution providers; ``huge_pages`` is "always", "madvise", "never" or "" (unknown),
    ``buffers`` the limits of socket buffers as /proc/sys has them, ``cores`` those that this process may use,
    ``open_files`` its limit of them, ``load`` the processes that wanted to run in the last minute.
    """

    def __init__(self) -> None:
        self.versions = {name: _version(name) for name in (*_LIBRARIES, *_FRAMEWORKS)}
        self.notes = {name: note for name in _FRAMEWORKS if (note := self._note(name))}
        self.providers = _providers() if self.versions["onnxruntime"] or self.versions["onnxruntime-gpu"] else []
        self.python = f"{platform.python_implementation()} {platform.python_version()}"
        self.kernel = f"{platform.system()} {platform.release()} ({platform.machine()})"
        self.cpu = _cpu()
        self.cores = _cores()
        self.memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        self.load = os.getloadavg()[0]
        self.huge_pages = _read("/sys/kernel/mm/transparent_hugepage/enabled").partition("[")[2].partition("]")[0]
        self.buffers = {name: _read(f"/proc/sys/{name}") for name in _BUFFERS}
        self.backlog = int(_read("/proc/sys/net/core/somaxconn") or 0)
        self.open_files = resource.getrlimit(resource.RLIMIT_NOFILE)[0]

    def rows(self) -> dict[str, str]:
        """What people are shown, by name."""
        found = {"Python": self.python}
        for name, number in self.versions.items():
            if number or name in _LIBRARIES:
                note = self.notes.get(name)
                found[name] = (number or "not installed") + (f" ({note})" if note else "")
        if self.providers:
            found["ONNX Runtime on"] = ", ".join(name.removesuffix("ExecutionProvider") for name in self.providers)
        found["CPU"] = f"{self.cpu}, {self.cores:g} cores, load {self.load:.1f}"
        found["memory"] = f"{self.memory / 2**30:.1f} GiB, huge pages: {self.huge_pages or 'unknown'}"
        found["kernel"] = self.kernel
        found["socket buffers"] = ", ".join(
            f"{name.rpartition('/')[2]} {' '.join(text.split())}" for name, text in self.buffers.items() if text
        )
        found["limits"] = f"{self.open_files:,} open files, {self.backlog:,} connections that wait to be accepted"
        return found

    def _note(self, name: str) -> str:
        """What a version says of its build, without an import."""
        number = self.versions[name] or ""
        x86 = platform.machine() in ("x86_64", "AMD64")
        if name == "torch" and number:
            build = number.partition("+")[2]
            device = "CPU only" if build == "cpu" else f"CUDA {build[2:]}" if build.startswith("cu") else ""
            return ", ".join(filter(None, [device, "oneDNN built in" if x86 else ""]))
        return ""


def look() -> Host:
    """Look at the host; takes as long as importing ONNX Runtime and TensorFlow, those of them that are installed."""
    found = Host()
    for name in _FRAMEWORKS:
        if name.startswith("tensorflow") and found.versions[name]:
            found.notes[name] = tensorflow_build()
    return found


def tensorflow_build() -> str:
    """'CPU build, oneDNN on', as the engine says it; from a process of its own, which has no GPU."""
    try:
        done = subprocess.run(
            [sys.executable, "-c", _TENSORFLOW],
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1"},
            capture_output=True,
            text=True,
            timeout=_PATIENCE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"takes over {_PATIENCE:g} s to import"
    found = re.fullmatch(r"TensorFlow \S+ \((.*)\)", done.stdout.strip())
    return found[1] if found else "cannot be imported"


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _providers() -> list[str]:
    from tensorwire.servers.engines.ort import available_providers

    try:
        return available_providers()
    except Exception:  # a broken installation is reported as one without providers
        return []


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu() -> str:
    for line in _read("/proc/cpuinfo").splitlines():
        if line.startswith(("model name", "Model")):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> float:
    """Cores this process may use: by its affinity, and its control group's quota."""
    cores = float(len(os.sched_getaffinity(0)))
    quota, _, period = _read("/sys/fs/cgroup/cpu.max").partition(" ")
    return min(cores, int(quota) / int(period)) if quota.isdigit() and period.isdigit() else cores
