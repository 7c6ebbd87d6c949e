"""Load from wrk (https://github.com/wg/wrk): as many requests as the server answers, over kept-alive connections."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Final

__all__ = ["ABSENT", "CONNECTIONS", "Load", "available", "load"]

CONNECTIONS: Final = 16
ABSENT: Final = "needs wrk: apt install wrk"

_SCRIPT = Path(__file__).with_name("post.lua")


@dataclass(frozen=True)
class Load:
    """What wrk counted: answers with 2xx, seconds, and of the time that a request took two percentiles."""

    requests: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


def available() -> bool:
    return shutil.which("wrk") is not None


def load(url: str, body: Path, seconds: float) -> Load:
    """One thread, CONNECTIONS connections, the file's bytes as each request's body.

    Raises RuntimeError when a request failed, or all of them did.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{max(1, ceil(seconds))}s", "-s", str(_SCRIPT), url, str(body)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"wrk: {_last(done.stderr.splitlines() or done.stdout.splitlines())}")
    found = json.loads(_last(done.stdout.splitlines()))
    failed = found.pop("failed")
    if failed or not found["requests"]:
        raise RuntimeError(f"wrk on {url}: {failed} of {found['requests']} requests failed")
    return Load(**found)


def _last(lines: Sequence[str]) -> str:
    return lines[-1] if lines else "it said nothing"
