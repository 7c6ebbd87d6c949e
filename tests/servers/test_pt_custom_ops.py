"""PyTorch: operators from a library, compiled here with the headers that PyTorch brings."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="these models run on PyTorch")

import torch

from tensorwire.servers.engines.pt import ENGINE
from tensorwire.servers.model import ModelError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler"),
]

SOURCE = """
#include <ATen/core/Tensor.h>
#include <ATen/ops/add.h>
#include <torch/library.h>

at::Tensor increment(const at::Tensor& x) { return at::add(x, 1); }

TORCH_LIBRARY(tensorwire_test, library) { library.def("increment(Tensor x) -> Tensor", &increment); }
"""

SCRIPT = """
import sys
import torch
torch.ops.load_library(sys.argv[1])

class Increments(torch.nn.Module):
    def forward(self, x):
        return torch.ops.tensorwire_test.increment(x)

torch.jit.save(torch.jit.trace(Increments(), torch.zeros(3)), sys.argv[2])
"""


def compiled(folder: Path) -> Path:
    root = Path(torch.__file__).parent
    (folder / "ops.cc").write_text(SOURCE)
    abi: Any = torch._C._GLIBCXX_USE_CXX11_ABI  # type: ignore[attr-defined]
    flags = [f"-I{root}/include", f"-I{root}/include/torch/csrc/api/include", f"-D_GLIBCXX_USE_CXX11_ABI={int(abi)}"]
    flags += [f"-L{root}/lib", "-ltorch", "-ltorch_cpu", "-lc10"]
    done = subprocess.run(
        ["g++", "-std=c++20", "-O0", "-w", "-shared", "-fPIC", "-o", "ops.so", "ops.cc", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "ops.so"


def test_operators_of_a_library(tmp_path: Path) -> None:
    """The model is made in another process, since a library stays in the one that has loaded it."""
    library, path = compiled(tmp_path), tmp_path / "m.pt"
    command = [sys.executable, "-c", SCRIPT, str(library), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    with pytest.raises(ModelError, match="tensorwire_test::increment"):
        ENGINE.load(path, options={})
    model = ENGINE.load(path, options={"custom_ops": str(library)})
    assert model.run("", {"x": np.arange(3, dtype=np.float32)}, ())["output"].tolist() == [1, 2, 3]
