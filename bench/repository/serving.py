"""A server of base paths, and what a run does with its models."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from socket import create_server
from tempfile import TemporaryDirectory
from time import perf_counter, sleep
from typing import Any

from bench.children import Child, started
from bench.status import resident

__all__ = ["Serving", "scratch", "serving"]

_PATIENCE = 60.0
_TOKEN = "bench"


@dataclass(frozen=True)
class Serving:
    """A server process with the folder of its models; its address is 127.0.0.1:``port``."""

    child: Child
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        """What a page answers; raises RuntimeError for an error."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=_PATIENCE)
        try:
            data = None if body is None else json.dumps(body)
            connection.request(method, path, data, {"Authorization": f"Bearer {_TOKEN}"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise RuntimeError(f"{method} {path}: {response.status} {text.decode()[:200]}")
        return json.loads(text) if text[:1] in b"{[" else text.decode()

    def serves(self, name: str) -> list[int]:
        """The versions of a model that are there, in any state but the last."""
        for model in self.ask("/v1/models")["models"]:
            if model["name"] == name:
                states = {int(version["version"]): version["state"] for version in model["versions"]}
                return [number for number, state in sorted(states.items()) if state != "END"]
        return []

    def wait(self, condition: Any, pause: float = 0.002) -> None:
        """Until something is true of the server, asked every ``pause`` seconds; raises TimeoutError."""
        until = perf_counter() + _PATIENCE
        while not condition():
            if perf_counter() > until:
                raise TimeoutError(f"not within {_PATIENCE:g} s")
            sleep(pause)

    def ready(self) -> bool:
        try:
            return bool(self.ask("/readyz") == "ok\n")
        except (OSError, RuntimeError):
            return False

    @property
    def resident(self) -> int:
        return resident(self.child.pid)


@contextmanager
def serving(folder: Path, names: Sequence[str], *flags: str) -> Iterator[Serving]:
    """A server of the base paths of these names in a folder, ready; with flags of ``tensorwire serve``."""
    with create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    config, token = folder / "models.toml", folder / "token"
    config.write_text(
        "".join(
            f'[models.{name}]\npath = "{folder / name}"\nsettle = 0\noptions = {{ intra_op_num_threads = 1 }}\n'
            for name in names
        )
    )
    token.write_text(_TOKEN)
    command = [sys.executable, "-m", "tensorwire", "serve", "--config", str(config), "--listen", f"127.0.0.1:{port}"]
    command += ["--admin-token-file", str(token), "--no-access-log", "--poll", "0.02", *flags]
    with started(command, wait=False) as child:
        found = Serving(child, folder, port)
        found.wait(lambda: found.ready() or _alive(child))
        yield found


def _alive(child: Child) -> bool:
    if child.ended:
        raise child.failed()
    return False


@contextmanager
def scratch() -> Iterator[Path]:
    """A folder that is gone at the end, whatever lies in it."""
    with TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as name:
        yield Path(name)
        shutil.rmtree(name, ignore_errors=True)
