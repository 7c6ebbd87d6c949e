"""NVIDIA Triton: the real server, as the wheel nvidia-pytriton carries it, with the identity in its Python backend.

Called by ``tritonclient.http``, either with the array in the request (its binary extension) or in shared memory.
"""

from __future__ import annotations

import atexit
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import tritonclient.http as triton
from tritonclient.utils import shared_memory

from bench.peers.servers.roles import Call, free_port, main, ready, wait_for
from bench.workload import Array

_MODELS = Path(__file__).parent / "triton_models"


def serve(scheme: str, path: str) -> None:
    packages = Path(sysconfig.get_paths()["purelib"])
    home = packages / "pytriton" / "tritonserver"
    port = free_port()
    with TemporaryDirectory(prefix="bench-triton-") as folder:
        backends = _backends(home, Path(folder))
        libraries = [sysconfig.get_config_var("LIBDIR"), str(packages / "nvidia_pytriton.libs")]
        env = {
            **os.environ,
            "LD_LIBRARY_PATH": ":".join([*libraries, os.environ.get("LD_LIBRARY_PATH", "")]),
            "PYTHONPATH": str(packages),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        }
        command = [str(home / "bin" / "tritonserver"), f"--model-repository={_MODELS}"]
        command += [f"--backend-directory={backends}", f"--cache-directory={home / 'caches'}", f"--http-port={port}"]
        command += ["--http-address=127.0.0.1", "--allow-grpc=false", "--allow-metrics=false"]
        server = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL)
        # Its shared memory is given back only when it ends in good order.
        signal.signal(signal.SIGTERM, lambda number, frame: server.terminate())
        try:
            wait_for(port, "GET", "/v2/models/identity/ready")
            ready(f"127.0.0.1:{port}")
            server.wait()
        finally:
            server.terminate()
            server.wait()


def _backends(home: Path, folder: Path) -> Path:
    """Its Python backend with the stub for this Python beside it, where it looks for one."""
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = "triton_python_backend_stub"
    shutil.copy2(home / "python_backend_stubs" / version / stub, backend / stub)
    return backend.parent


def client(address: str, x: Array, way: str) -> Call:
    connected = triton.InferenceServerClient(address, network_timeout=120, connection_timeout=120)
    return _by_memory(connected, x) if way == "memory" else _by_http(connected)


def _by_http(connected: Any) -> Call:
    output = triton.InferRequestedOutput("y", binary_data=True)

    def call(x: Array) -> Any:
        tensor = triton.InferInput("x", list(x.shape), "FP32")
        tensor.set_data_from_numpy(x, binary_data=True)
        return connected.infer("identity", [tensor], outputs=[output]).as_numpy("y")

    return call


def _by_memory(connected: Any, x: Array) -> Call:
    """One copy into shared memory, and a view of it on the way back."""
    regions = []
    for name in ("in", "out"):
        key = f"/tensorwire-bench-{os.getpid()}-{name}"
        regions.append(shared_memory.create_shared_memory_region(name, key, x.nbytes))
        atexit.register(shared_memory.destroy_shared_memory_region, regions[-1])
        connected.register_system_shared_memory(name, key, x.nbytes)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit())  # else the regions would stay
    tensor, output = triton.InferInput("x", list(x.shape), "FP32"), triton.InferRequestedOutput("y")
    tensor.set_shared_memory("in", x.nbytes)
    output.set_shared_memory("out", x.nbytes)

    def call(x: Array) -> Any:
        shared_memory.set_shared_memory_region(regions[0], [x])
        connected.infer("identity", [tensor], outputs=[output])
        return shared_memory.get_contents_as_numpy(regions[1], x.dtype, x.shape)

    return call


if __name__ == "__main__":
    main(serve, client)
