"""``tensorwire top``: the table that it makes of a server's answers, piped and in a terminal."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
from listings import model, version
from terminal import terminal

import tensorwire as tw
from tensorwire.servers.background import BackgroundServer
from tensorwire.servers.cli import main
from tensorwire.servers.engines.function import FunctionModel

X = np.ones(3, np.float32)


class Script:
    """A server whose pages are what a test says: what comes is the next of a path's answers, the last one for ever."""

    def __init__(self) -> None:
        self.pages: dict[str, list[tuple[int, Any]]] = {"/v1/stats": [(404, {"error": "nothing"})]}
        self.connections = 0
        script = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                script.connections += 1
                super().setup()

            def do_GET(self) -> None:
                answers = script.pages[self.path]
                status, answer = answers.pop(0) if len(answers) > 1 else answers[0]
                if status == 0:
                    self.close_connection = True
                    return
                body = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status, "\x1b[31mreason" if status == 500 else None)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    @contextmanager
    def running(self) -> Iterator[Script]:
        thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield self
        finally:
            self._server.shutdown()
            thread.join()
            self._server.server_close()


@pytest.fixture
def script() -> Iterator[Script]:
    with Script().running() as script:
        yield script


def looks(capsys: pytest.CaptureFixture[str], url: str, *args: str, count: int = 2) -> list[str]:
    """The tables of a piped run."""
    assert main(["top", url, "--interval", "0.1", "--count", str(count), *args]) == 0
    captured = capsys.readouterr()
    assert captured.err == ""
    tables: list[str] = []
    for line in captured.out.splitlines():
        if "requests/s" in line and url in line:
            tables.append("")
        tables[-1] += line + "\n"
    assert len(tables) == count
    return tables


def cells(table: str, first: str) -> list[str]:
    (line,) = [line for line in table.splitlines() if line.startswith("│") and first in line]
    return [cell.strip() for cell in line.strip("│").split("│")]


def test_a_live_server_piped(capsys: pytest.CaptureFixture[str]) -> None:
    served = FunctionModel(lambda inputs: inputs, name="watched")
    with BackgroundServer(served) as server, tw.Client(server.url) as client:
        stop = threading.Event()

        def ask() -> None:
            while not stop.is_set():
                client.infer({"x": X})

        thread = threading.Thread(target=ask)
        thread.start()
        try:
            first, second = looks(capsys, server.url)
        finally:
            stop.set()
            thread.join()
    for table in (first, second):
        assert cells(table, "watched")[:4] == ["watched", "1", "", "AVAILABLE"]
    assert cells(first, "watched")[4] == ""
    assert float(cells(second, "watched")[4].replace(",", "")) > 0
    assert float(cells(second, "watched")[6]) > 0  # p50 ms
    assert "\x1b" not in first + second


def test_the_connection_is_kept_so_that_one_worker_answers(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.pages["/v1/models"] = [(200, {"models": [model("m", version(1))]})]
    looks(capsys, script.url, count=3)
    assert script.connections == 1


def test_another_worker_counts_for_itself(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.pages["/v1/models"] = [(200, {"models": [model("m", version(1, requests=n))]}) for n in (5, 10, 900, 901)]
    script.pages["/v1/stats"] = [(200, {"pid": pid, "requests": {}}) for pid in (1, 1, 2, 2)]
    rates = [cells(table, "AVAILABLE")[4] for table in looks(capsys, script.url, count=4)]
    assert [bool(rate) for rate in rates] == [False, True, False, True]


def test_what_was_lost_is_in_the_title(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.pages["/v1/models"] = [(200, {"models": [], "memory": {"used": 5000, "limit": 20000}})]
    script.pages["/v1/stats"] = [(200, {"pid": 1, "requests": {"expired": 1234, "cancelled": 2}})]
    (table,) = looks(capsys, script.url, count=1)
    told = " ".join(table.split())
    assert "0 requests/s · 1,234 expired · 2 cancelled · models take 5.0 kB of 20.0 kB" in told
    script.pages["/v1/stats"] = [(200, {"pid": 1, "requests": {"expired": 0, "cancelled": 0}})]
    (table,) = looks(capsys, script.url, count=1)
    assert "expired" not in table and "cancelled" not in table


@pytest.mark.parametrize(("sort", "order"), [("name", "abc"), ("rate", "bca"), ("p99", "cab"), ("memory", "abc")])
def test_sorted(script: Script, capsys: pytest.CaptureFixture[str], sort: str, order: str) -> None:
    def listing(rounds: int) -> dict[str, Any]:
        numbers = {"c": (2, 9.0, 10), "a": (1, 3.0, 30), "b": (3, 1.0, 20)}
        versions = {
            name: version(1, requests=rate * rounds, p99_ms=p99, memory=memory)
            for name, (rate, p99, memory) in numbers.items()
        }
        return {"models": [model(name, found) for name, found in versions.items()]}

    script.pages["/v1/models"] = [(200, listing(0)), (200, listing(1))]
    table = looks(capsys, script.url, "--sort", sort)[1]
    found = [line.split("│")[1].strip() for line in table.splitlines() if "AVAILABLE" in line]
    assert found == list(order)


def test_a_server_that_goes_and_comes_back(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    answer = (200, {"models": [model("m", version(1, requests=5))]})
    # The question on a kept connection is asked once more on a new one.
    script.pages["/v1/models"] = [answer, answer, (0, None), (0, None), (503, {"error": "shutting down"}), answer]
    there, rated, gone, refused, back = looks(capsys, script.url, count=5)
    assert cells(there, "AVAILABLE")[4] == "" and cells(rated, "AVAILABLE")[4] == "0"
    assert f"{script.url} does not speak HTTP" in gone or f"cannot ask {script.url}" in gone
    assert cells(gone, "AVAILABLE")[4] == ""
    assert "shutting down (503)" in refused
    assert "503" not in back and cells(back, "AVAILABLE")[4] == "0"


HOSTILE = "\x1b]0;owned\x07\x9b31m\r\n\u202e[red]x[/red]"
CLEAN = "�]0;owned��31m���[red]x[/red]"


def hostile_listing() -> dict[str, Any]:
    bad = version(1, state=HOSTILE, error=HOSTILE)
    bad["version"] = HOSTILE
    other = model(HOSTILE, bad, labels={HOSTILE: HOSTILE}, problem=HOSTILE, traffic={HOSTILE: 1})
    other["shadow"] = {"to": HOSTILE, "same": 1, "different": 0, "failed": 0, "skipped": 0, "latest": HOSTILE}
    return {"models": [other]}


def harmless(text: str) -> bool:
    return not any(bad in text for bad in ("\x1b]", "\x07", "\x9b", "\u202e", "\x1b[31mreason"))


def test_text_of_the_server_does_not_steer_the_terminal(script: Script, capsys: pytest.CaptureFixture[str]) -> None:
    script.pages["/v1/models"] = [(200, hostile_listing()), (404, {"error": HOSTILE})]
    listed, refused = looks(capsys, script.url)
    assert harmless(listed) and harmless(refused)
    assert "owned" in listed and "[red]x[/red]" in listed
    assert CLEAN in refused
    for status, answer in (
        (500, b""),
        (500, b"\x1b]0;owned\x07"),
        (200, b"\x1b]0;owned\x07"),
        (400, {"error": HOSTILE}),
    ):
        script.pages["/v1/models"] = [(status, answer)]
        assert main(["top", script.url, "--count", "1"]) == 2
        told = capsys.readouterr().err
        assert harmless(told) and "\x1b" not in told and told.count("\n") == 1


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"models": None},
        {"models": [1]},
        {"models": [{}]},
        {"models": [model("m", {})]},
        {"models": [{**model("m", version(1)), "name": 1}]},
        {"models": [model("m", version(1, state=None))]},
        {"models": [model("m", version(1, p50_ms="1"))]},
        {"models": [model("m", version(1, p50_ms=float("nan")))]},
        {"models": [model("m", version(1, memory=10**400))]},
        {"models": [model("m", version(1, in_flight={}))]},
        {"models": [model("m", version(1), traffic={"1": "x"})]},
        {"models": [model("m", version(1), shadow={"to": "1"})]},
        {"models": [], "memory": 7},
        {"models": [], "memory": {"used": "x"}},
        b"<html>",
        b"[" * 100_000,
    ],
    ids=lambda answer: str(answer)[:40],
)
def test_answers_of_something_else(script: Script, capsys: pytest.CaptureFixture[str], answer: Any) -> None:
    script.pages["/v1/models"] = [(200, answer)]
    assert main(["top", script.url, "--count", "1"]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"tensorwire: {script.url} does not ") and "as tensorwire does" in captured.err
    assert captured.err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["http://127.0.0.1:1"], "cannot ask http://127.0.0.1:1"),
        (["http://127.0.0.1:99999"], "is not a server"),
        (["http://[::1"], "is not a server"),
        (["http://" + "x" * 70 + ".invalid"], "cannot ask"),
        (["ftp://x"], "is not a server"),
        (["unix:///no/such"], "cannot ask"),
        (["http://127.0.0.1:1", "--interval", "nan"], "greater than or equal to 0.1"),
        (["http://127.0.0.1:1", "--interval", "inf"], "--interval is a number of seconds, not inf"),
    ],
)
def test_mistakes(capsys: pytest.CaptureFixture[str], args: list[str], told: str) -> None:
    assert main(["top", *args]) == 2
    captured = capsys.readouterr()
    assert told in captured.err and captured.err.count("\n") == 1


ENTER, LEAVE, HIDE, SHOW = "\x1b[?1049h", "\x1b[?1049l", "\x1b[?25l", "\x1b[?25h"


def test_in_a_terminal_until_ctrl_c() -> None:
    served = FunctionModel(lambda inputs: inputs, name="watched")
    with BackgroundServer(served) as server, terminal("top", server.url, "--interval", "0.1") as screen:
        screen.wait_for(ENTER, "watched", "AVAILABLE")
        drawn = screen.shown.count("watched")
        while screen.shown.count("watched") <= drawn + 1:  # it is drawn anew
            assert screen.read()
        screen.press(b"\x03")
        assert screen.end() == 0
    assert screen.shown.rindex(LEAVE) > screen.shown.rindex(ENTER)
    assert screen.shown.rindex(SHOW) > screen.shown.rindex(HIDE)
    assert "Traceback" not in screen.shown and "Abort" not in screen.shown


def test_a_number_of_looks_in_a_terminal_leaves_the_last_one_there() -> None:
    with (
        BackgroundServer(FunctionModel(lambda inputs: inputs, name="watched")) as server,
        terminal("top", server.url, "--interval", "0.1", "--count", "2") as screen,
    ):
        assert screen.end() == 0
    assert ENTER not in screen.shown
    assert "watched" in screen.shown
    assert screen.shown.rindex(SHOW) > screen.shown.rindex(HIDE)


def test_80_columns_are_enough(script: Script) -> None:
    busy = version(12, requests=5, p50_ms=12.3456, p99_ms=1234.5, in_flight=1024, memory=123_456_789)
    broken = version(13, state="END", error="no such file")
    script.pages["/v1/models"] = [(200, {"models": [model("digits-of-pi", broken, busy, labels={"stable": 12})]})]
    with terminal("top", script.url, "--interval", "0.1", "--count", "2", columns=80) as screen:
        assert screen.end() == 0
    for text in ("digits-of-pi", "stable", "AVAILABLE", "12.3", "1,234", "1024", "123.5 MB", "req/s", "open"):
        assert text in screen.shown, text
    assert "digits-of-pi 13: no such file" in screen.shown


def test_hostile_text_in_a_terminal(script: Script) -> None:
    script.pages["/v1/models"] = [(200, hostile_listing()), (500, b""), (200, [])]
    with terminal("top", script.url, "--interval", "0.1") as screen:
        assert screen.end() == 2
    assert "owned" in screen.shown
    assert harmless(screen.shown)
    # What is wrong is told on the screen that was there before.
    after = screen.shown[screen.shown.rindex(LEAVE) :]
    assert "does not say which models it has" in after
