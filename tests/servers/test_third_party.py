"""An engine of another package, as the page shows it: found by its entry point, and served."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from processes import Start, first_line

import tensorwire as tw

PAGE = (Path(__file__).parents[2] / "docs/engines.md").read_text()


def test_an_engine_that_another_package_ships_serves(
    tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, entry = re.findall(r"^```(?:python|toml)\n(.*?)^```", PAGE, re.M | re.S)[:2]
    site = tmp_path / "site"
    about = site / "linear_engine-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: linear-engine\nVersion: 1.0\n")
    group, line = re.findall(r'entry-points."(.*)"\]\n(.*)\n', entry)[0]
    (about / "entry_points.txt").write_text(f"[{group}]\n{line.replace(chr(34), '')}\n")
    (site / "linear_engine.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(site))
    weight = np.arange(8, dtype=np.float32).reshape(4, 2)
    np.savez(tmp_path / "model.npz", weight=weight, bias=np.ones(2, np.float32))
    np.savez(tmp_path / "other.npz", weight=weight)

    server = start("-m", "tensorwire", "serve", "model.npz", "--listen", "127.0.0.1:0")
    x = np.ones((3, 4), np.float32)
    with tw.Client(first_line(server).split()[2]) as client:
        np.testing.assert_array_equal(client.infer({"x": x})["y"], x @ weight + 1)
        assert client.metadata().inputs == (tw.TensorSpec("x", np.float32, (-1, 4), "one row for each example"),)
    server.terminate()
    assert server.wait(60) == 0

    for arguments, message in (
        (["other.npz"], "other.npz: not a linear model: 'bias is not a file in the archive'"),
        (["model.npz", "--option", "size=1"], "model.npz: the linear engine has no option size"),
    ):
        refused = start("-m", "tensorwire", "inspect", *arguments)
        assert refused.communicate(timeout=60)[1] == f"tensorwire: {message}\n"
        assert refused.returncode == 2
