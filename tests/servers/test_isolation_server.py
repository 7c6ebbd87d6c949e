"""``--isolate`` through the whole server: what clients, health checks and operators see when a model's process ends."""

from __future__ import annotations

import gc
import importlib
import json
import os
import re
import signal
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from descriptors import open_descriptors
from processes import Start, first_line
from rawhttp import Raw, post
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.app import make_app
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.embedded import DIGITS
from tensorwire.servers.engines.echo import EchoModel
from tensorwire.servers.engines.registry import load_model
from tensorwire.servers.isolation.model import IsolatedModel, end_all
from tensorwire.servers.isolation.target import make_target
from tensorwire.servers.model import ModelError

ACT = "misbehaving_model:act"
FLAKY = rb"not ready: flaky: version 1 cannot take requests now: no process, restarts: \d, the last one ended with 9\n"
TESTS = Path(__file__).parents[1]
X = np.arange(1 << 17, dtype=np.float64)


def asking(what: str, **inputs: Any) -> dict[str, Any]:
    return {"do": np.array(what.encode(), object), **inputs}


def message(what: str, deadline_ms: int = 0) -> bytes:
    return bytes(tw.encode(tw.Request(asking(what), deadline_ms=deadline_ms)))


def error(body: bytes) -> str:
    return tw.decode(body, tw.Response).errors[0].message


def status(raw: Raw) -> str:
    return str(json.loads(raw.get("/").body)["status"]["act"])


def gone(pid: int) -> bool:
    """The process has ended; it may be a zombie until its new parent looks after it."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return True
    return state == "Z"


def test_a_crash_is_a_503_and_a_count() -> None:
    with BackgroundServer(ACT, isolate=True) as server, Raw(server.url) as raw, tw.Client(server.url) as client:
        before = int(client.infer(asking("pid"))["y"])
        assert status(raw) == f"process {before}, restarts: 0"
        np.testing.assert_array_equal(client.infer(asking("same", x=X))["x"], X)
        answer = raw.post(message("segv"))
        assert answer.status == 503
        assert answer.fields["retry-after"] == "1"
        assert error(answer.body) == ("the model's process was ended by SIGSEGV while it ran this request, try again")
        wait_until(lambda: raw.get("/readyz").status == 200)
        after = int(client.infer(asking("pid"))["y"])
        assert after != before
        assert status(raw) == f"process {after}, restarts: 1, the last one was ended by SIGSEGV"
        np.testing.assert_array_equal(client.infer(asking("same", x=X))["x"], X)
        wait_until(lambda: server.app.budget.used == 0)
    wait_until(lambda: gone(after))


def test_not_ready_while_no_process_is(tmp_path: Path) -> None:
    options = {"folder": str(tmp_path)}
    with (
        BackgroundServer("misbehaving_model:flaky", isolate=True, engine_options=options) as server,
        Raw(server.url) as raw,
    ):
        assert raw.get("/readyz").status == 200
        (tmp_path / "die").touch()
        assert raw.post(message("kill")).status == 503
        wait_until(lambda: server.app.service.models[0].restarts >= 2)  # type: ignore[attr-defined]
        answer = raw.get("/readyz")
        assert answer.status == 503
        assert re.fullmatch(FLAKY, answer.body)
        assert raw.get("/healthz").status == 200
        refused = raw.post(message("same"))
        assert (refused.status, refused.fields["retry-after"]) == (503, "1")
        assert error(refused.body) == "the model's process ended with 9; another one loads the model"
        (tmp_path / "die").unlink()
        wait_until(lambda: raw.get("/readyz").status == 200)
        assert raw.post(message("pid")).status == 200


def test_what_hangs_ends_at_the_servers_time_limit() -> None:
    with (
        BackgroundServer(ACT, isolate=True, request_timeout=0.4) as server,
        Raw(server.url) as raw,
        Raw(server.url) as waiting,
    ):
        raw.send(post(message("lock")))
        wait_until(lambda: server.app.service.in_flight == 1)
        waiting.send(post(message("pid", 10)))
        assert waiting.answer().status == 504
        answer = raw.answer()
        assert answer.status == 504
        wait_until(lambda: raw.get("/readyz").status == 200 and "restarts: 1" in status(raw))
        wait_until(lambda: server.app.service.overdue == 0)
        assert raw.post(message("pid")).status == 200


def test_the_models_own_errors_are_as_without_a_process() -> None:
    for isolate in (True, False):
        with BackgroundServer(ACT, isolate=isolate) as server, tw.Client(server.url) as client:
            for what, code, text in (
                ("raise", 500, "model 'act' failed: ValueError: bad value (request r)"),
                (
                    "none",
                    500,
                    "model 'act' failed: TypeError: None was returned where an array is expected (request r)",
                ),
                ("refuse", 422, "no digits in it"),
            ):
                with pytest.raises(tw.RemoteError) as caught:
                    client.infer(asking(what), id="r")
                assert (caught.value.code, caught.value.message) == (code, text)


def test_stopping_gives_everything_back() -> None:
    def count() -> tuple[int, int, int]:
        gc.collect()  # what earlier tests left in cycles
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        maps = Path("/proc/self/maps").read_text().count("memfd:tensorwire")
        return open_descriptors(), len(children.read_text().split()) if children.exists() else 0, maps

    end_all()  # models of earlier tests
    before = count()
    for _ in range(2):
        with BackgroundServer(ACT, isolate=True, engine_options={"concurrency": 4}) as server:
            with tw.Client(server.url) as client, ThreadPoolExecutor(4) as pool:
                for x in pool.map(lambda n: client.infer(asking("same", x=X + n))["x"], range(8)):
                    assert x.shape == X.shape
            model = server.app.service.models[0]
        del server
        assert model.join(PATIENCE)  # type: ignore[attr-defined]
        del model
    wait_until(lambda: count() == before)


def test_what_cannot_be_isolated_is_refused() -> None:
    with pytest.raises(ModelError, match="another process cannot load EchoModel objects: give a path or 'module:name'"):
        make_app(EchoModel(), isolate=True)
    with pytest.raises(ModelError, match="it is not at the top of its module"):
        make_app(lambda inputs: inputs, isolate=True)
    with pytest.raises(ValueError, match="isolate_memory is of no use without isolate"):
        make_app(isolate_memory=1)


def test_what_another_process_cannot_load_is_refused() -> None:
    def local(inputs: Any) -> Any:
        return inputs

    assert make_target(load_model).path == "tensorwire.servers.engines.registry:load_model"
    assert make_target(None).path is None
    for thing, text in (
        (local, r"cannot import .*<locals>.local: it is not at the top of its module"),
        (lambda inputs: inputs, "it is not at the top of its module"),
        (load_model(DIGITS), "cannot load OrtModel objects: give a path or 'module:name'"),
    ):
        with pytest.raises(ModelError, match=text):
            make_target(thing)
    with pytest.raises(ModelError, match=r"an option cannot be given to another process: .* is object"):
        make_target(DIGITS, None, {"o": object()}).message()


@pytest.mark.parametrize("name", ["os.pidfd_open", "threading.Thread.start", "socket.socketpair"])
def test_a_process_that_cannot_be_started_leaves_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    end_all()
    gc.collect()
    before = open_descriptors()
    module, _, call = name.rpartition(".")
    real = getattr(threading.Thread if call == "start" else importlib.import_module(module), call)
    calls: list[Any] = []

    def fail(*args: Any, **options: Any) -> Any:
        calls.append(args)
        # The keeper's thread, and the first two pairs, are there already.
        if len(calls) > {"pidfd_open": 0, "start": 1, "socketpair": 4}[call]:
            raise RuntimeError("can't start new thread") if call == "start" else OSError(24, "Too many open files")
        return real(*args, **options)

    monkeypatch.setattr(f"tensorwire.servers.isolation.process.{name}", fail)
    with pytest.raises(ModelError, match=r"no process can be started|no socket is left"):
        IsolatedModel(make_target(ACT, None, {"concurrency": 8}))
    monkeypatch.undo()
    gc.collect()
    assert open_descriptors() == before


def serve(start: Start, *options: str, target: str = ACT) -> tuple[subprocess.Popen[str], str]:
    """A server process on a free port, with this folder's modules."""
    code = f"import sys; sys.path.insert(0, {str(TESTS)!r}); from tensorwire.servers.cli import main; main()"
    process = start("-c", code, "serve", target, "--isolate", "--listen", "127.0.0.1:0", *options)
    found = re.match(r"listening on (\S+)", first_line(process))
    assert found is not None
    return process, found[1]


def model_pid(url: str) -> int:
    with tw.Client(url) as client:
        return int(client.infer(asking("pid"))["y"])


@pytest.mark.slow
def test_the_models_process_never_outlives_the_servers(start: Start) -> None:
    process, url = serve(start)
    pid = model_pid(url)
    with Raw(url) as raw:
        raw.send(post(message("lock")))  # it cannot even notice that its server has gone
        process.kill()
    wait_until(lambda: gone(pid))


@pytest.mark.slow
def test_sigterm_stops_both_in_good_order(start: Start) -> None:
    process, url = serve(start, target="misbehaving_model:Closing")
    with Raw(url) as raw:
        pid = int(json.loads(raw.get("/").body)["status"]["Closing"].split()[1].rstrip(","))
    assert not gone(pid)
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert gone(pid)
    assert f"model process {pid}: closed in good order" in log


@pytest.mark.slow
def test_each_worker_has_a_process_of_its_own(start: Start) -> None:
    process, url = serve(start, "--workers", "2")
    pids: set[int] = set()

    def both() -> bool:
        pids.add(model_pid(url))
        return len(pids) == 2

    wait_until(both)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    wait_until(lambda: all(gone(pid) for pid in pids))


@pytest.mark.slow
def test_the_command_line_refuses_what_makes_no_sense(start: Start) -> None:
    for options, text in (
        (["--isolate-memory", "1GiB"], "--isolate-memory needs --isolate"),
        (["--echo", "--isolate"], "--echo does not crash: it takes no --isolate"),
        (["--isolate", "--isolate-memory", "much"], "--isolate-memory"),
    ):
        process = start("-m", "tensorwire", "serve", *options)
        _, log = process.communicate(timeout=PATIENCE)
        assert process.returncode == 2
        assert text in log
