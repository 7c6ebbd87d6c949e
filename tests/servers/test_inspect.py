"""``tensorwire inspect``: devices, folders of versions, and URLs that are not a server's."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path
from typing import Any

import pytest

from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.embedded import DIGITS


def test_it_takes_what_serve_takes_of_device_and_threads(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    assert main(["inspect", str(DIGITS), "--device", "cpu", "--threads", "1"]) == 0
    assert "device" not in capsys.readouterr().out
    assert main(["inspect", str(DIGITS), "--device", "tpu"]) == 2
    assert "tpu" in capsys.readouterr().err
    assert main(["inspect", str(DIGITS), "--threads", "0"]) == 2
    assert "--threads" in capsys.readouterr().err


def test_it_shows_the_newest_of_several_versions(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    base = tmp_path / "digits"
    for version in ("2", "10", "notes", "0009"):
        (base / version).mkdir(parents=True)
        (base / version / "model.onnx").write_bytes(DIGITS.read_bytes())
    (base / "2/model.onnx").write_bytes(b"broken, and not looked at")
    assert main(["inspect", str(base)]) == 0
    out = capsys.readouterr().out
    for words in ("version: 10\n", "versions: 2, 9, 10: the newest is shown\n", "engine: onnxruntime", "[?, 8, 8]"):
        assert words in out
    (base / "10/model.onnx").unlink()
    assert main(["inspect", str(base)]) == 2
    assert f"{base}/10: the folder is empty" in capsys.readouterr().err


def test_a_file_on_the_web_is_told_from_a_server(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    class Site(http.server.SimpleHTTPRequestHandler):
        """Pages for GET, and an error of its own for POST; under /plain, text and 200 for anything."""

        def log_message(self, *_: Any) -> None:
            pass

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            status, body = (200, b"welcome") if "plain" in self.path else (405, b"<!DOCTYPE HTML>\n<p>no")
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        for path, said in (("/a/m.onnx", "with status 405"), ("", "with status 405"), ("/plain", "otherwise")):
            assert main(["inspect", url + path]) == 2
            err = capsys.readouterr().err
            assert f"{url}{path} is no tensorwire or GraphPipe server: it answered {said}" in err
            assert f"curl -LO {url}{path} && tensorwire inspect " in err
            assert "<" not in err and err.count("\n") == 1
        server.shutdown()


def test_it_passes_on_what_a_server_of_ours_refuses(capsys: pytest.CaptureFixture[str]) -> None:
    with BackgroundServer(lambda inputs: inputs) as server:
        assert main(["inspect", f"{server.url}/v1/models/other"]) == 2
    err = capsys.readouterr().err
    assert "no tensorwire" not in err and "other" in err
