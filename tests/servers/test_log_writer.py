"""The log of a server: in order and whole while somebody reads it, and no reason to wait when nobody does."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rawhttp import Raw
from waiting import PATIENCE, wait_until

import tensorwire as tw
from tensorwire.servers.log_writer import LogWriter, flush_logs

BODY = bytes(tw.encode(tw.Request({"x": np.ones(3, np.float32)})))
NOTICE = re.compile(r"([0-9,]+) lines of this log are missing: they could not be written in time")


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def logger_to(fd: int, most: int = 1 << 20) -> logging.Logger:
    logger = logging.Logger("a log")
    logger.addHandler(LogWriter(fd, most))
    return logger


def read_until(fd: int, mark: str) -> str:
    """What comes, up to a text, on a thread of its own."""
    seen = ""

    def read() -> None:
        nonlocal seen
        while mark not in seen:
            seen += os.read(fd, 1 << 16).decode()

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert mark in seen
    return seen


def test_lines_are_written_in_order_and_whole(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        logger = logger_to(file.fileno())
        for i in range(1000):
            logger.info("line %d %s", i, "\N{SNOWMAN}\ud800")
        flush_logs()
        assert (tmp_path / "log").read_text("utf-8") == "".join(f"line {i} \N{SNOWMAN}\\ud800\n" for i in range(1000))


@pytest.mark.parametrize("blocking", [True, False])
def test_who_logs_does_not_wait_and_what_is_missing_is_told(pipe: tuple[int, int], blocking: bool) -> None:
    os.set_blocking(pipe[1], blocking)
    logger = logger_to(pipe[1], most=100_000)
    for i in range(20_000):
        logger.info("line %d", i)
    seen = read_until(pipe[0], "could not be written in time\n").splitlines()
    *lines, notice = seen
    missing = NOTICE.fullmatch(notice)
    assert missing
    assert lines == [f"line {i}" for i in range(len(lines))]
    assert int(missing[1].replace(",", "")) + len(lines) == 20_000
    logger.info("on again")
    assert read_until(pipe[0], "\n") == "on again\n"


def test_what_cannot_be_written_is_counted(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    logger = logger_to(writer)
    for _ in range(3):
        logger.error("lost")
    flush_logs()
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), writer)
        logger.error("room")
        flush_logs()
        wait_until(lambda: (tmp_path / "log").read_text().count("\n") == 2)
    os.close(writer)
    first, second = (tmp_path / "log").read_text().splitlines()
    found = NOTICE.fullmatch(second)
    assert (first, found and found[1]) == ("room", "3")


def test_a_forked_process_writes_its_own_lines_alone(tmp_path: Path) -> None:
    script = """
import logging, os
from tensorwire.servers.log_writer import LogWriter, flush_logs

logging.basicConfig(handlers=[LogWriter(2)], level=logging.INFO, format="%(message)s")
logging.info("of the parent")
child = os.fork()
if not child:
    logging.info("of the child")
    flush_logs()
    os._exit(0)
os.waitpid(child, 0)
logging.info("the last one, written at the end")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert sorted(done.stderr.splitlines()) == ["of the child", "of the parent", "the last one, written at the end"]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_server_whose_standard_error_is_not_read_answers(tmp_path: Path, workers: str) -> None:
    """The system holds some 600 lines of the access log."""
    command = [sys.executable, "-m", "tensorwire", "serve", "--echo", "--listen", f"unix:{tmp_path}/s"]
    with subprocess.Popen(
        [*command, "--workers", workers], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None and process.stderr is not None
            url = process.stdout.readline().split()[2]
            with Raw(url) as raw:
                assert {raw.post(BODY).status for _ in range(2000)} == {200}
                assert raw.get("/healthz").status == 200
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
            assert " POST / model=" in process.stderr.read()
        finally:
            process.kill()
