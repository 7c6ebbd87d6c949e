"""Several processes behind one port, of which one has yet to load its model: the others have all connections."""

from __future__ import annotations

import os
import signal
import ssl
from pathlib import Path

import numpy as np
import pytest
import version_folders
from certificates import Authority, client_context
from processes import Start, first_line, refuses
from rawhttp import Raw, post
from waiting import PATIENCE, wait_until

import tensorwire as tw

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))
MANY = 50

# A model is loaded once there is a file "load"; the processes that are at it, or were, have files of their own.
SERVER = """
import os, pathlib, sys, time
import numpy
from tensorwire.servers import app

def wait():
    pathlib.Path(f"loading-{os.getpid()}").touch()
    while not pathlib.Path("load").exists():
        time.sleep(0.005)

class Model:
    def __init__(self):
        wait()

    def __call__(self, inputs):
        return {"y": inputs["x"]}

def load_version(path, config, load=app.load_version):
    wait()
    return load(path, config)

def on_ready(app):
    print(app.urls[0], flush=True)

app.load_version = load_version
if __name__ == "__main__":
    app.serve_model(sys.argv[1], listen="127.0.0.1:0", on_ready=on_ready, workers=2, **eval(sys.argv[2]))
"""


class Server:
    """Two workers that have their model."""

    def __init__(
        self, start: Start, folder: Path, model: str, context: ssl.SSLContext | None = None, **options: str
    ) -> None:
        (folder / "served.py").write_text(SERVER)
        (folder / "load").touch()
        self.folder = folder
        self.process = start("served.py", model, repr(options))
        self.url = first_line(self.process)
        self.context = context
        wait_until(lambda: len(self.loading()) == 2 and self.statuses(MANY) == {200})

    def loading(self) -> set[int]:
        """The processes that load their model, or have loaded it."""
        return {int(file.name.partition("-")[2]) for file in self.folder.glob("loading-*")}

    def statuses(self, count: int) -> set[int]:
        """Of requests on connections of their own, all open at a time."""
        opened = [Raw(self.url, self.context) for _ in range(count)]
        try:
            for raw in opened:
                raw.send(post(BODY))
            return {raw.answer().status for raw in opened}
        finally:
            for raw in opened:
                raw.sock.close()

    def kill(self, number: int) -> None:
        os.kill(number, signal.SIGKILL)
        wait_until(lambda: not Path(f"/proc/{number}").exists())

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        self.process.communicate(timeout=PATIENCE)
        assert self.process.returncode == 0


@pytest.fixture(params=["model", "tls", "base path"])
def server(request: pytest.FixtureRequest, start: Start, tmp_path: Path) -> Server:
    if request.param == "base path":
        pytest.importorskip("onnxruntime")
        version_folders.write(tmp_path / "base", 1, 1)
        return Server(start, tmp_path, str(tmp_path / "base"))
    if request.param == "tls":
        authority = Authority(tmp_path)
        cert, key = authority.issue("server")
        context = client_context(authority)
        return Server(start, tmp_path, "served:Model", context, tls_cert=str(cert), tls_key=str(key))
    return Server(start, tmp_path, "served:Model")


def test_connections_go_to_those_that_have_their_model(server: Server) -> None:
    (server.folder / "load").unlink()
    before = server.loading()
    server.kill(min(before))
    for _ in range(2):
        wait_until(lambda: server.loading() - before)
        assert server.statuses(MANY) == {200}
        (successor,) = server.loading() - before
        before.add(successor)
        server.kill(successor)  # before it has a model: it takes nothing with it
        assert server.statuses(MANY) == {200}
    (server.folder / "load").touch()
    server.stop()


def test_a_stop_does_not_wait_for_models(server: Server) -> None:
    (server.folder / "load").unlink()
    before = server.loading()
    server.kill(min(before))
    wait_until(lambda: server.loading() - before)
    server.stop()
    assert refuses(server.url)
