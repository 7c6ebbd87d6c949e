"""The commands that ask a server: which authorities they trust, and what they show it."""

from __future__ import annotations

import json
import socket
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from certificates import Authority
from scripted import Server, answer

import tensorwire as tw
from tensorwire.servers.cli import main

SHORT = ["--duration", "0.2", "--warmup", "0", "--concurrency", "2"]


@pytest.fixture
def shown(authority: Authority) -> list[str]:
    cert, key = authority.issue("client")
    return ["--ca", str(authority.root), "--cert", str(cert), "--key", str(key)]


@pytest.fixture
def file(tmp_path: Path) -> str:
    np.save(tmp_path / "x.npy", np.arange(3.0))
    return str(tmp_path / "x.npy")


def test_inspect(mutual: str, shown: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", mutual, *shown]) == 0
    assert "model: echo" in capsys.readouterr().out


def test_infer(mutual: str, shown: list[str], file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["infer", mutual, *shown, "--input", f"x={file}"]) == 0
    assert "x: float64" in capsys.readouterr().out


def test_a_certificate_with_its_key(mutual: str, authority: Authority, tmp_path: Path) -> None:
    cert, key = authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    assert main(["inspect", mutual, "--ca", str(authority.root), "--cert", str(both)]) == 0


def test_bench(mutual: str, shown: list[str], file: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", mutual, *shown, "--input", f"x={file}", *SHORT, "--processes", "2", "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["requests"] > 0
    assert not found["errors"]


def test_without_a_certificate(mutual: str, authority: Authority, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", mutual, "--ca", str(authority.root)]) != 0
    assert "a certificate of the client's" in capsys.readouterr().err


def test_mistakes(mutual: str, shown: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for options, words in (
        (["--ca", "none.pem"], "--ca: no such file: none.pem"),
        (shown[:2] + shown[4:], "--key is of no use without --cert"),
        (["--token-file", str(tmp_path / "none")], "--token-file"),
    ):
        assert main(["inspect", mutual, *options]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("command", ["inspect", "infer", "bench"])
def test_a_token(command: str, file: str, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("open-sesame\n")

    def script(sock: socket.socket) -> None:
        while (request := server.read(sock))[0]:
            asked = tw.decode(request[1])
            told = tw.Response(asked.inputs) if isinstance(asked, tw.Request) else tw.Metadata()
            sock.sendall(answer(bytes(tw.encode(told))))

    with closing(Server((script,) * 8, "", None)) as server:
        more = {"inspect": [], "infer": ["--input", file], "bench": ["--input", file, *SHORT]}[command]
        assert main([command, server.url, "--token-file", str(token), *more]) == 0
        assert len(server.requests) > (1 if command == "bench" else 0)
        assert all(b"\r\nauthorization: Bearer open-sesame" in head for head, _ in server.requests)
