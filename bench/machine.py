"""Where a run was made: processor, kernel, Python, and the versions of what was compared."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_OURS = ("tensorwire", "numpy", "uvloop", "httptools")


def machine() -> dict[str, str]:
    """What the figures depend on, by name."""
    load = os.getloadavg()[0]
    page = Path("/sys/kernel/mm/transparent_hugepage/enabled")
    found = {
        "CPU": f"{_cpu()}, {len(os.sched_getaffinity(0))} cores",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / 2**30:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()} ({platform.machine()})",
        "Python": f"{platform.python_implementation()} {platform.python_version()}",
        "C library": " ".join(platform.libc_ver()),
    }
    found["load"] = f"{load:.1f} processes in the minute before" + (" (busy: trust less)" if load > 0.5 else "")
    if page.exists():
        found["huge pages"] = page.read_text().partition("[")[2].partition("]")[0]
    return found


def versions(distributions: Iterable[str] = ()) -> dict[str, str]:
    """Installed versions of ours, of what it stands on, and of ``distributions``."""
    found = {}
    for name in (*_OURS, *distributions):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("model name", "Model")):
            name = line.partition(":")[2].strip()
            break
    else:
        name = platform.processor() or platform.machine()
    cache = Path("/sys/devices/system/cpu/cpu0/cache/index3/size")
    return f"{name}, L3 {cache.read_text().strip()}" if cache.exists() else name
