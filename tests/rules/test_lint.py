"""Lint, types and stubs are tests like any other."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CODE = ["src", "servers", "tests", "bench", "tools", "setup.py"]


def check(*command: str, cwd: Path = ROOT) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command], cwd=cwd, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff() -> None:
    check("ruff", "check", "--no-cache", *CODE)


@pytest.mark.slow
def test_types_of_the_installed_package(tmp_path: Path) -> None:
    config = str(ROOT / "pyproject.toml")
    check(
        "mypy",
        "--config-file",
        config,
        "--cache-dir",
        str(tmp_path / "cache"),
        "-p",
        "tensorwire",
        cwd=tmp_path,
    )


@pytest.mark.slow
def test_stubs_say_what_the_extensions_are(tmp_path: Path) -> None:
    names = ["_budget", "_memory", "_messages", "_dlpack", "_frame", "_encode", "_decode"]
    names += ["_incoming", "_pending", "_net", "_limit", "_spin", "_idle", "_result", "_calls"]
    allowlist = Path(__file__).with_name("stubtest_allowlist.txt")
    check(
        "mypy.stubtest",
        "--ignore-unused-allowlist",
        "--allowlist",
        str(allowlist),
        *[f"tensorwire.{name}" for name in names],
        cwd=tmp_path,
    )


@pytest.mark.slow
def test_types_that_users_see(tmp_path: Path) -> None:
    script = Path(__file__).with_name("revealed.py")
    check("mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(script), cwd=tmp_path)
