"""A server as a process of its own: what it prints, and how signals end it."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from processes import Start, first_line, refuses
from rawhttp import Raw, chunked, post
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.embedded import heldout

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))

# The model makes a file named "entered" when it is asked, and answers when one named "open" is there.
GATED = """
import pathlib, sys, time
import tensorwire

def model(inputs):
    pathlib.Path("entered").touch()
    while not pathlib.Path("open").exists():
        time.sleep(0.005)
    return inputs

def on_ready(app):
    print(app.urls[0], flush=True)

tensorwire.serve(model, listen="127.0.0.1:0", on_ready=on_ready, **OPTIONS)
print("served")
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("send", [post, chunked])
def test_signal_lets_a_request_in_flight_finish(
    start: Start, tmp_path: Path, number: signal.Signals, send: Callable[[bytes], bytes]
) -> None:
    process = start("-c", GATED.replace("OPTIONS", "{}"))
    url = first_line(process)
    with Raw(url) as raw, Raw(url) as idle:
        assert idle.get("/healthz").status == 200
        raw.send(send(BODY))
        wait_until((tmp_path / "entered").exists)
        process.send_signal(number)
        assert idle.at_end()
        wait_until(lambda: refuses(url))
        (tmp_path / "open").touch()
        answer = raw.answer()
        assert answer.status == 200
        assert np.array_equal(tw.decode(answer.body, tw.Response).outputs["x"], np.ones(3, np.float32))
        assert raw.at_end()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "served\n", "")


def test_second_signal_ends_the_process_at_once(start: Start, tmp_path: Path) -> None:
    process = start("-c", GATED.replace("OPTIONS", "{}"))
    url = first_line(process)
    with Raw(url) as raw:
        raw.send(post(BODY))
        wait_until((tmp_path / "entered").exists)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(url))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 128 + signal.SIGTERM
        assert raw.at_end()


def test_model_that_does_not_finish_is_given_up(start: Start, tmp_path: Path) -> None:
    process = start("-c", GATED.replace("OPTIONS", "{'drain_timeout': 0.1}"))
    with Raw(first_line(process)) as raw:
        raw.send(post(BODY))
        wait_until((tmp_path / "entered").exists)
        process.send_signal(signal.SIGTERM)
        assert raw.at_end()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "served\n")
    assert "unfinished after 0.1 s" in err


def test_command_serves_the_embedded_model(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "s"
    process = start("-m", "tensorwire", "serve", "--listen", "127.0.0.1:0", "--listen", f"unix:{path}")
    listening = first_line(process)
    assert process.stdout is not None
    serving = process.stdout.readline()
    assert listening.startswith("listening on http://127.0.0.1:")
    assert f" unix://{path} " in listening
    assert serving.startswith("serving digits (onnxruntime")
    assert "embedded: no model was named" in serving
    assert "image float32 [?, 8, 8] -> probabilities float32 [?, 10], label int64 [?]" in serving
    images, labels = heldout()
    with tw.Client(listening.split()[2]) as client:
        assert np.mean(client.infer(images, outputs=["label"])["label"] == labels) > 0.97
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (0, "")
    lines = err.splitlines()
    assert " POST / model=- 200 in=" in lines[0]
    assert "SIGTERM: finishing 0 requests in flight" in lines[1]
    assert len(lines) == 2
    assert not path.exists()


def test_quiet_command_prints_nothing(start: Start, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    url = f"unix://{tmp_path / 's'}"
    process = start("-m", "tensorwire", "serve", "--listen", f"unix:{tmp_path / 's'}", "--quiet")
    wait_until(lambda: process.poll() is not None or not refuses(url))
    with Raw(url) as raw:
        assert raw.get("/").status == 200
    process.send_signal(signal.SIGTERM)
    assert process.communicate(timeout=PATIENCE) == ("", "")
    assert process.returncode == 0


def test_command_without_access_log(start: Start) -> None:
    pytest.importorskip("onnxruntime")
    process = start("-m", "tensorwire", "serve", "--listen", "127.0.0.1:0", "--no-access-log")
    with Raw(first_line(process).split()[2]) as raw:
        assert raw.get("/").status == 200
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert err.count("\n") == 1
    assert "SIGINT" in err


def test_failing_command_prints_one_line(start: Start) -> None:
    process = start("-m", "tensorwire", "serve", "no.onnx")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (2, "", "tensorwire: no such file: no.onnx\n")
