"""``tensorwire-tf``: the flags and variables of graphpipe-tf, and which of them wins."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import os
import re
import signal
import threading
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tf_models as models
from processes import Start, first_line

import tensorwire
from tensorwire import remote
from tensorwire.servers.commands import graphpipe_flags, graphpipe_tf

X = np.arange(6, dtype=np.float32).reshape(2, 3)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What would be served, without doing it; the environment has nothing of GraphPipe's, and logging is left alone."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(graphpipe_tf, "serve_file", lambda path, **options: found.update(path=path, **options))
    monkeypatch.setattr(graphpipe_flags, "set_up_logging", lambda *_, **__: None)
    for name in [name for name in os.environ if name.startswith("GP_")]:
        monkeypatch.delenv(name)
    return found


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert graphpipe_tf.main(args) == 2
    text = capsys.readouterr().err
    assert text.startswith("tensorwire-tf: ")
    assert text.count("\n") == 1
    return text


def test_flags_long_and_short(served: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "m.pb"
    path.touch()
    expected = {"path": path, "engine": "tensorflow", "cache": None, "listen": "127.0.0.1:9000", "options": {}}
    assert graphpipe_tf.main(["--model", str(path)]) == 0
    assert served == expected
    for flags in (
        ["--model", str(path), "--inputs", "a,b:0", "--outputs", "c", "--listen", ":9001", "--cache"],
        ["-m", str(path), "-i", "a,b:0", "-o", "c", "-l", ":9001", "-c", "-d", str(tmp_path), "-v"],
    ):
        served.clear()
        assert graphpipe_tf.main(flags) == 0
        options = {"inputs": "a,b:0", "outputs": "c"}
        cache = tmp_path if "-d" in flags else Path("~/.graphpipe")
        assert served == {**expected, "cache": cache, "listen": ":9001", "options": options}


def test_variables_stand_in_for_flags_which_win(
    served: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one.pb", "two.pb"):
        (tmp_path / name).touch()
    for name, value in {"MODEL": str(tmp_path / "one.pb"), "INPUTS": "a", "OUTPUTS": "b", "CACHE": "true"}.items():
        monkeypatch.setenv(f"GP_{name}", value)
    assert graphpipe_tf.main([]) == 0
    assert (served["path"], served["options"], served["cache"]) == (
        tmp_path / "one.pb",
        {"inputs": "a", "outputs": "b"},
        Path("~/.graphpipe"),
    )
    monkeypatch.setenv("GP_CACHE", "F")
    assert graphpipe_tf.main(["-m", str(tmp_path / "two.pb"), "-o", "c"]) == 0
    assert (served["path"], served["options"], served["cache"]) == (
        tmp_path / "two.pb",
        {"inputs": "a", "outputs": "c"},
        None,
    )


def test_a_variable_that_is_no_truth_value_is_told_and_ignored(
    served: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m.pb").write_bytes(b"graph")
    monkeypatch.setenv("GP_CACHE", "foo")
    for flags, cache in (([], None), (["--cache", "--dir", str(tmp_path)], tmp_path)):
        caplog.clear()
        assert graphpipe_tf.main(["-m", str(tmp_path / "m.pb"), *flags]) == 0
        assert served["cache"] == cache
        told = "GP_CACHE is neither true nor false but 'foo': results are not kept" in caplog.text
        assert told == (cache is None)


def test_the_digest_of_a_local_file_is_told(
    served: dict[str, Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "m.pb").write_bytes(b"graph")
    with caplog.at_level(logging.INFO):
        assert graphpipe_tf.main(["-m", str(tmp_path / "m.pb")]) == 0
        digest = hashlib.sha256(b"graph").hexdigest()
        assert caplog.messages == [f"{tmp_path}/m.pb: 5 bytes, SHA-256 {digest}"]
        caplog.clear()
        assert graphpipe_tf.main(["-m", str(tmp_path)]) == 0  # a SavedModel's folder
        assert caplog.messages == []


def test_mistakes_are_one_line(served: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert "--model or GP_MODEL must say which model to serve" in failure(capsys)
    assert "no such file: nothing.pb" in failure(capsys, "-m", "nothing.pb")
    assert "--listen: 'nowhere' is not an address" in failure(capsys, "-m", "nothing.pb", "-l", "nowhere")
    assert "cannot be fetched" in failure(capsys, "-m", "http://127.0.0.1:1/m.pb", "-d", str(tmp_path))
    assert "64 hexadecimal digits" in failure(capsys, "-m", "http://127.0.0.1:1/m.pb#md5=1", "-d", str(tmp_path))
    assert not served


def test_version_and_help(capsys: pytest.CaptureFixture[str]) -> None:
    for flag in ("-V", "--version"):
        assert graphpipe_tf.main([flag]) == 0
        assert capsys.readouterr().out == f"version {tensorwire.__version__}\n"
    assert graphpipe_tf.main(["--help"]) == 0
    text = capsys.readouterr().out
    for word in ("Examples", "GP_MODEL", "GP_INPUTS", "GP_OUTPUTS", "GP_CACHE", "--cache-dir", "127.0.0.1:9000"):
        assert word in text


@pytest.fixture
def site(tmp_path: Path) -> Iterator[tuple[Path, str]]:
    """A folder, and the URL under which a web server has it."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

    folder = tmp_path / "site"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield folder, f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_a_model_from_a_url_is_kept_and_its_digest_told(
    served: dict[str, Any], site: tuple[Path, str], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, url = site
    (folder / "m.pb").write_bytes(b"graph")
    with caplog.at_level(logging.INFO):
        for how in ("downloaded", "unchanged"):
            caplog.clear()
            assert graphpipe_tf.main(["-m", f"{url}/m.pb", "-d", str(tmp_path / "kept")]) == 0
            assert f"{url}/m.pb: {how}, 5 bytes, SHA-256 {hashlib.sha256(b'graph').hexdigest()}" in caplog.text
    assert served["path"].read_bytes() == b"graph"
    assert served["path"].is_relative_to(tmp_path / "kept")


@pytest.mark.skipif(not models.HERE, reason="these models run on TensorFlow")
def test_a_graph_is_served_as_graphpipe_tf_would(start: Start, site: tuple[Path, str], tmp_path: Path) -> None:
    def build(tf: Any) -> None:
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        tf.reduce_sum(tf.nn.relu(x, name="relu"), 1, name="sum")

    folder, url = site
    models.save_graph(folder / "m.pb", build)
    script = "import sys; from tensorwire.__main__ import tf; sys.exit(tf())"
    flags = ["-m", f"{url}/m.pb", "-l", "127.0.0.1:0", "-d", str(tmp_path / "kept"), "-o", "relu,sum", "--cache"]
    process = start("-W", "error", "-c", script, *flags)
    address = first_line(process).split()[2]
    assert first_line(process).startswith("serving m (TensorFlow ")
    for _ in range(2):
        relu, total = remote.execute(address, X - 2)
        np.testing.assert_array_equal(relu, np.maximum(X - 2, 0))
    np.testing.assert_array_equal(remote.execute(address, X - 2, "x", "sum"), total)
    assert remote.get_input_names(address) == ["x:0"]
    with urllib.request.urlopen(address) as page:
        status = json.load(page)["status"]["m"]
    # What is computed is stored a little later, so the second request may not meet it yet.
    hits, misses = map(int, re.findall(r"(\d+) (?:hits|misses)", status))
    assert hits + misses == 6
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert (tmp_path / "kept/tensorwire-rows/data.mdb").stat().st_size
