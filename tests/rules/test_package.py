"""The sdist and the wheel: they build, install, hold what they should, and stay small."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.timeout(900)  # the first test waits for every extension to be compiled


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both archives, built from a copy of the tracked tree: the wheel from the sdist, as `python -m build` does."""
    folder = tmp_path_factory.mktemp("dist")
    source = tmp_path_factory.mktemp("source")
    files = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    ).stdout
    for name in filter(None, files.decode().split("\0")):
        if (ROOT / name).is_file():
            (source / name).parent.mkdir(parents=True, exist_ok=True)
            (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return folder


@pytest.mark.slow
def test_the_wheel_is_small_and_complete(dist: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    assert wheel.stat().st_size < 5_000_000
    names = set(zipfile.ZipFile(wheel).namelist())
    for name in (
        "__init__.py",
        "py.typed",
        "_encode.pyi",
        "servers/app.py",
        "servers/embedded/digits.onnx",
        "servers/fronts/graphpipe.py",
        "servers/doctor/peer.py",
        "servers/loadgen/worker.py",
    ):
        assert f"tensorwire/{name}" in names
    extensions = len(list((ROOT / "_ext/tensorwire").glob("*.pyx")))
    assert sum(name.endswith(".so") for name in names) == extensions
    assert not [name for name in names if name.endswith((".pyx", ".c", ".h"))]


@pytest.mark.slow
def test_the_sdist_has_what_a_build_needs(dist: Path) -> None:
    (sdist,) = dist.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "setup.py",
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "_ext/c/reader.c",
        "_ext/tensorwire/_c.pxd",
        "_ext/tensorwire/ndarray.h",
        "schema/graphpipe.fbs",
    } <= names


@pytest.mark.slow
def test_the_wheel_runs_from_elsewhere(dist: Path, tmp_path: Path) -> None:
    (wheel,) = dist.glob("*.whl")
    target = tmp_path / "site"
    subprocess.run(
        [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(target), str(wheel)],
        check=True,
        capture_output=True,
    )
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import numpy, tensorwire as tw;"
        "assert tw.__file__.startswith(sys.argv[1]), tw.__file__;"
        "x = numpy.arange(6.0).reshape(2, 3);"
        "print(tw.decode(bytes(tw.encode(tw.Request({'x': x}))), tw.Request).inputs['x'].sum())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(target)], check=True, capture_output=True, text=True, cwd=tmp_path
    )
    assert done.stdout.strip() == "15.0"
