"""Several processes behind one port: replaced when they die, stopped together."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from processes import Start, first_line, refuses
from rawhttp import Answer, Raw, post
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.app import serve_model
from tensorwire.servers.engines.echo import EchoModel

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))
SLOW = bytes(tw.encode(tw.Request({"x": np.full(1, 7.0)})))

# The model tells in which process it runs; "slow" in its input makes it wait for the file "open".
PID = """
import os, pathlib, sys, time
import numpy, tensorwire

def model(inputs):
    if inputs["x"][0] == 7:
        pathlib.Path("entered").touch()
        pathlib.Path(f"in-{os.getpid()}").touch()
        while not pathlib.Path("open").exists():
            time.sleep(0.005)
    return {"pid": numpy.array([os.getpid()])}

def on_ready(app):
    print(app.urls[0], flush=True)

print(tensorwire.serve(model, listen=sys.argv[1], on_ready=on_ready, workers=2))
"""


def pid(url: str) -> int:
    with Raw(url) as raw:
        return answered_by(raw, BODY)


def answered_by(raw: Raw, body: bytes) -> int:
    """The process behind a connection."""
    return answer_pid(raw.post(body))


def answer_pid(answer: Answer) -> int:
    assert answer.status == 200
    return int(tw.decode(answer.body, tw.Response).outputs["pid"][0])


def two_pids(url: str) -> set[int]:
    """Ask until both workers have answered."""
    found: set[int] = set()

    def both() -> bool:
        found.add(pid(url))
        return len(found) == 2

    wait_until(both)
    return found


def alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


def kill(number: int) -> None:
    """Once it is gone the system gives its connections to others."""
    os.kill(number, signal.SIGKILL)
    wait_until(lambda: not alive(number))


def slow_request(raw: Raw, folder: Path) -> None:
    raw.send(post(SLOW))
    wait_until((folder / "entered").exists)


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:s"])
def test_two_processes_answer_and_stop_together(start: Start, tmp_path: Path, place: str) -> None:
    process = start("-c", PID, place)
    url = first_line(process)
    found = two_pids(url)
    assert process.pid not in found
    with Raw(url) as raw:
        slow_request(raw, tmp_path)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(url))
        (tmp_path / "open").touch()
        assert raw.answer().status == 200
        assert raw.at_end()
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out, err) == (0, "None\n", "")
    assert not any(map(alive, found))
    assert not (tmp_path / "s").exists()


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:s"])
def test_a_killed_worker_is_replaced_and_the_port_stays_open(start: Start, tmp_path: Path, place: str) -> None:
    process = start("-c", PID, place)
    url = first_line(process)
    before = two_pids(url)
    with Raw(url) as raw:
        slow_request(raw, tmp_path)
        (tmp_path / "open").touch()
        answer = raw.answer()
        assert answer.status == 200
        victim = int(tw.decode(answer.body, tw.Response).outputs["pid"][0])
        (survivor,) = before - {victim}
        kill(victim)
        assert raw.at_end()
    # No connection is refused or lost while it is replaced.
    wait_until(lambda: not refuses(url) and pid(url) not in before)
    after = two_pids(url)
    assert survivor in after
    assert victim not in after
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert f"(pid {victim}) was ended by SIGKILL; starting another" in err


@pytest.mark.parametrize("place", ["127.0.0.1:0", "unix:s"])
def test_a_killed_worker_loses_its_own_requests_alone(start: Start, tmp_path: Path, place: str) -> None:
    process = start("-c", PID, place)
    url = first_line(process)
    victim, survivor = two_pids(url)
    with contextlib.ExitStack() as opened:
        held: dict[int, list[Raw]] = {victim: [], survivor: []}
        while min(map(len, held.values())) < 3:
            raw = opened.enter_context(Raw(url))
            held[answered_by(raw, BODY)].append(raw)
        for raw in (*held[victim], *held[survivor]):
            raw.send(post(SLOW))
        wait_until(lambda: all((tmp_path / f"in-{number}").exists() for number in held))
        kill(victim)
        assert not refuses(url)
        assert all(raw.at_end() for raw in held[victim])
        (tmp_path / "open").touch()
        assert {answer_pid(raw.answer()) for raw in held[survivor]} == {survivor}
        assert {answered_by(raw, BODY) for raw in held[survivor]} == {survivor}
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_workers_stop_when_their_parent_is_killed(start: Start) -> None:
    process = start("-c", PID, "127.0.0.1:0")
    url = first_line(process)
    found = two_pids(url)
    process.kill()
    wait_until(lambda: not any(map(alive, found)))
    assert refuses(url)


def test_second_signal_ends_the_workers_at_once(start: Start, tmp_path: Path) -> None:
    process = start("-c", PID, "127.0.0.1:0")
    url = first_line(process)
    found = two_pids(url)
    with Raw(url) as raw:
        slow_request(raw, tmp_path)
        process.send_signal(signal.SIGTERM)
        wait_until(lambda: refuses(url))
        process.send_signal(signal.SIGTERM)
        assert raw.at_end()
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0
    assert not any(map(alive, found))


def test_interrupt_of_the_whole_group_lets_requests_finish(start: Start, tmp_path: Path) -> None:
    process = start("-c", PID, "127.0.0.1:0")
    url = first_line(process)
    found = two_pids(url)
    with Raw(url) as raw:
        slow_request(raw, tmp_path)
        for number in (*found, process.pid):  # as a terminal does on Ctrl-C
            os.kill(number, signal.SIGINT)
        wait_until(lambda: refuses(url))
        (tmp_path / "open").touch()
        assert raw.answer().status == 200
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_mistakes_are_told_once(start: Start, tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    process = start("-m", "tensorwire", "serve", "broken.onnx", "--workers", "3", "--listen", "127.0.0.1:0")
    out, err = process.communicate(timeout=PATIENCE)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "broken.onnx" in err


def test_a_taken_port_is_refused(start: Start) -> None:
    process = start("-c", PID, "127.0.0.1:0")
    place = first_line(process).removeprefix("http://")
    for workers in ("1", "2"):
        other = start("-m", "tensorwire", "serve", "--echo", "--listen", place, "--workers", workers)
        _, err = other.communicate(timeout=PATIENCE)
        assert other.returncode == 2
        assert "the address is in use" in err


def test_worker_that_dies_young_is_replaced_later_and_later(start: Start, tmp_path: Path) -> None:
    process = start("-c", PID, "127.0.0.1:0")
    url = first_line(process)
    for _ in range(3):
        kill(max(two_pids(url)))
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=PATIENCE)
    assert process.returncode == 0


def test_no_workers() -> None:
    with pytest.raises(ValueError, match="workers is 1 or more"):
        serve_model(EchoModel(), workers=0)
