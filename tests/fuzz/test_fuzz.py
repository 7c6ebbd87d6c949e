"""The fuzz targets for a while: TENSORWIRE_FUZZ_SECONDS each, 30 if unset. `make fuzz` runs them for long."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SECONDS = int(os.environ.get("TENSORWIRE_FUZZ_SECONDS", 30))
TARGETS = ["fuzz_reader", "fuzz_roundtrip"]


def make(target: str, out: Path, *variables: str) -> subprocess.CompletedProcess[str]:
    command = ["make", "-C", str(HERE), target, f"OUT={out}", *variables]
    return subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)


@pytest.fixture(scope="session")
def clang(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not shutil.which("clang") or not shutil.which("make"):
        pytest.skip("needs clang and make")
    source = tmp_path_factory.mktemp("clang") / "empty.c"
    source.write_text("int LLVMFuzzerTestOneInput(const char *d, long n) { return !d && n; }")
    command = ["clang", "-fsanitize=fuzzer,address,undefined", str(source), "-o", str(source.with_suffix(""))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this clang has no libFuzzer: {done.stderr.strip()[-200:]}")


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_fuzz(clang: None, target: str, tmp_path: Path) -> None:
    done = make(f"one-{target}", tmp_path, f"ARGS=-max_total_time={SECONDS}")
    crashes = [path for path in tmp_path.glob(f"{target}-*") if path.is_file()]
    shown = [f"{path.name}: {path.read_bytes().hex()}" for path in crashes]
    assert (done.returncode, shown) == (0, []), f"{done.stderr[-5000:]}\n" + "\n".join(shown)
    executed = int(done.stderr.rpartition("stat::number_of_executed_units:")[2].split()[0])
    assert executed > 1000
    print(f"{target}: {executed:,} executions")


def test_the_corpus_stays_small() -> None:
    files = [path for path in (HERE / "corpus").rglob("*") if path.is_file()]
    assert 10 <= len(files) <= 150
    assert sum(path.stat().st_size for path in files) < 200_000
