"""Every command and every piece of Python in README.md and docs/ is run, in order, on a machine of its own folder."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import caffe2_nets
import numpy as np
import pytest
from caffe2_families import FAMILIES
from mxnet_families import FAMILIES as MXNET_FAMILIES

from tensorwire.servers.embedded import DIGITS, heldout

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```", re.M | re.S)
# A frozen TensorFlow graph, y = -x of float32: a GraphDef of two nodes.
GRAPH = bytes.fromhex(
    "0a1d0a0178120b506c616365686f6c6465722a0b0a056474797065120230010a140a017912034e65671a01782a070a015412023001"
)
SETUP = "import numpy as np\nimport tensorwire as tw\nimages = np.load('digits.npy')\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Session:
    """A folder with a model and some digits, and the servers that a page has started."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.ports = {name: str(free_port()) for name in ("9000", "9001")}
        self.servers: list[subprocess.Popen[bytes]] = []
        self.env = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "NO_COLOR": "1",
        }
        (folder / "model.onnx").write_bytes(DIGITS.read_bytes())
        (folder / "graph.pb").write_bytes(GRAPH)
        np.save(folder / "digits.npy", heldout()[0][:16])
        python = (ROOT / "docs/python.md").read_text()
        (folder / "my_module.py").write_text("".join(re.findall(r"^```py\n(.*?)^```", python, re.M | re.S)))
        torch_page = (ROOT / "docs/pytorch.md").read_text()
        (folder / "net.py").write_text("".join(re.findall(r"^```py\n(.*?)^```", torch_page, re.M | re.S)))
        self.write_legacy()
        np.save(folder / "rows.npy", np.arange(8, dtype=np.float32).reshape(2, 4))
        self.write_models()

    def write_legacy(self) -> None:
        """The networks of docs/legacy.md, small ones with random weights."""
        caffe2 = FAMILIES["resnet"][0]()
        caffe2_nets.write(self.folder / "resnet", caffe2.net("resnet"), caffe2.weights)
        MXNET_FAMILIES["resnet"][0]().write(self.folder / "mxnet", "resnet")
        (self.folder / "value_inputs.json").write_text('{"data": [1, [1, 3, 32, 32]]}')
        np.save(self.folder / "image.npy", np.zeros((1, 3, 32, 32), np.float32))

    def write_models(self) -> None:
        """Two versions of the digits model, and the configurations of docs/models.md."""
        digits = self.folder / "models/digits"
        for number in ("1", "2"):
            (digits / number).mkdir(parents=True)
            (digits / number / "model.onnx").write_bytes(DIGITS.read_bytes())
        (config,) = re.findall(r"^```toml\n(.*?)^```", (ROOT / "docs/models.md").read_text(), re.M | re.S)
        (self.folder / "models.toml").write_text(config.replace("/srv/models", str(self.folder / "models")))
        (self.folder / "model_config.txt").write_text(
            f'model_config_list {{ config {{ name: "digits", base_path: "{digits}", model_platform: "onnx" }} }}'
        )
        (self.folder / "models.json").write_text(
            '{"model_config_list": [{"name": "digits", "base_path": "models/digits", "platform": "onnx"}]}'
        )
        (self.folder / "admin.token").write_text("a-word-for-tests\n")

    def local(self, text: str) -> str:
        for name, port in self.ports.items():
            text = text.replace(f"127.0.0.1:{name}", f"127.0.0.1:{port}")
        return text.replace("/srv/models", str(self.folder / "models"))

    def stop(self) -> None:
        for server in self.servers:
            server.send_signal(signal.SIGTERM)
            assert server.wait(timeout=60) == 0
        self.servers.clear()

    def serve(self, command: list[str], port: str) -> None:
        """A page shows one server after the other: the one before makes room."""
        self.stop()
        server = subprocess.Popen(command, cwd=self.folder, env=self.env)
        self.servers.append(server)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            assert server.poll() is None, f"{command} ended with {server.returncode}"
            try:
                if "--config" in command or any("models/digits" in word for word in command):
                    # They listen before they have loaded.
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz").close()
                else:
                    socket.create_connection(("127.0.0.1", int(port)), 1).close()
                return
            except (ConnectionRefusedError, urllib.error.URLError):
                time.sleep(0.05)
        raise AssertionError(f"{command} did not serve within 30 s")

    def shell(self, line: str) -> None:
        words = shlex.split(self.local(line), comments=True)
        if not words or words[0] == "make":
            return  # the two commands of the README are what CI and this suite run by
        if words[:2] == ["tensorwire", "serve"] or words[0] in ("tensorwire-onnx", "tensorwire-tf"):
            if "--listen" not in words:
                words += ["--listen", f"127.0.0.1:{self.ports['9000']}"]
            self.serve(words, self.ports["9000"])
            return
        if shutil.which(words[0], path=self.env["PATH"]) is None:
            pytest.skip(f"needs the command {words[0]}")
        if words[0] == "curl":
            words[1:1] = ["--silent", "--show-error", "--fail"]
        done = subprocess.run(
            words, cwd=self.folder, env=self.env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
        assert done.stdout or words[0] == "openssl"

    def python(self, code: str, before: str) -> str:
        """Run a block after the blocks before it; one that serves goes on in the background."""
        code = self.local(code)
        if "tw.serve(" in code:
            if "listen=" not in code:
                code = code.replace("2})", f"2}}, listen='127.0.0.1:{self.ports['9001']}')")
            self.serve([sys.executable, "-c", SETUP + code], self.ports["9001"])
            return before
        script = before + code
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", SETUP + script],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{code}\n{done.stderr}"
        return script


@pytest.fixture
def session(tmp_path: Path) -> Iterator[Session]:
    made = Session(tmp_path)
    yield made
    made.stop()


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_everything_on_the_page_runs(page: Path, session: Session) -> None:
    before = ""
    blocks = BLOCK.findall(page.read_text())
    assert blocks
    for language, text in blocks:
        if language == "python":
            before = session.python(text, before)
            continue
        for line in text.splitlines():
            session.shell(line)


@pytest.mark.parametrize(
    "page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "schema/WIRE.md"], ids=lambda page: page.name
)
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)", page.read_text()):
        if not target.startswith("http"):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_hexdump_in_the_wire_page_is_what_we_write() -> None:
    import tensorwire as tw

    message = bytes(tw.encode(tw.Request({"x": np.array([1, 2], np.float32)}, outputs=["y"])))
    shown = re.findall(r"^[0-9a-f]{4}  ([0-9a-f ]+)$", (ROOT / "schema/WIRE.md").read_text(), re.M)
    assert bytes.fromhex("".join(shown)) == message
