"""A session of ONNX Runtime from the options of a load."""

from __future__ import annotations

import importlib
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.ort.facts import OnnxFile
from tensorwire.servers.engines.ort.providers import Provider, device_of
from tensorwire.servers.model import ModelError

__all__ = ["CONTRIB", "add_contrib", "open_session", "session_options"]

CONTRIB = ("ai.onnx.contrib", "com.microsoft.extensions")
"""Domains of the operators in the package onnxruntime-extensions."""

_FATAL = 4  # log severity: errors arrive as exceptions, and a client's mistake is not the console's business
_LEVELS = {
    "disable": "ORT_DISABLE_ALL",
    "basic": "ORT_ENABLE_BASIC",
    "extended": "ORT_ENABLE_EXTENDED",
    "all": "ORT_ENABLE_ALL",
}


def session_options(given: Options) -> Any:
    """An ``onnxruntime.SessionOptions`` from those options that it is about. Raises ModelError."""
    import onnxruntime as ort

    made = ort.SessionOptions()
    made.log_severity_level = given.whole("log_severity_level", _FATAL)
    for key in ("intra_op_num_threads", "inter_op_num_threads"):
        setattr(made, key, given.whole(key))
    # Idle threads that spin take cores from the event loop and from each other. Without, two requests at
    # once took 30 % less time each on two cores, and one every 2 ms a fourth of the processor time.
    spin = str(int(given.flag("allow_spinning")))
    made.add_session_config_entry("session.intra_op.allow_spinning", spin)
    made.add_session_config_entry("session.inter_op.allow_spinning", spin)
    level = given.choice("graph_optimization_level", list(_LEVELS), "all")
    made.graph_optimization_level = getattr(ort.GraphOptimizationLevel, _LEVELS[level])
    mode = given.choice("execution_mode", ("sequential", "parallel"), "sequential")
    made.execution_mode = getattr(ort.ExecutionMode, f"ORT_{mode.upper()}")
    made.enable_cpu_mem_arena = given.flag("enable_cpu_mem_arena", True)
    made.enable_mem_pattern = given.flag("enable_mem_pattern", True)
    profile = given.text("profile")
    if profile:
        if not Path(profile).expanduser().parent.is_dir():
            raise ModelError(f"option profile: no such folder: {Path(profile).parent}")
        made.enable_profiling = True
        made.profile_file_prefix = str(Path(profile).expanduser())
    for name, value in given.dotted().items():
        made.add_session_config_entry(name, value)
    for library in given.files("custom_ops"):
        _register(made, library)
    return made


def add_contrib(options: Any, path: Path, file: OnnxFile | None) -> None:
    """Bring the operators of onnxruntime-extensions to a model that uses them. Raises ModelError: not installed."""
    used = [domain for domain in CONTRIB if file is not None and domain in file.opsets]
    if not used:
        return
    try:
        library = importlib.import_module("onnxruntime_extensions").get_library_path()
    except ImportError:
        raise ModelError(
            f"{path}: uses operators of {used[0]}; run: pip install onnxruntime-extensions, or name the library that "
            "has them, --custom-op-path FILE.so"
        ) from None
    _register(options, Path(library))


def open_session(source: Path | bytes, options: Any, providers: list[Provider]) -> Any:
    """Raises what ONNX Runtime raises. The session may run without some of the providers: ask ``get_providers``."""
    import onnxruntime as ort

    if any(device_of([provider]) != "cpu" for provider in providers) and hasattr(ort, "preload_dlls"):
        # CUDA and cuDNN from the nvidia packages, where they are installed. It prints what it does not find.
        with redirect_stdout(sys.stderr):
            ort.preload_dlls()
    return ort.InferenceSession(
        source if isinstance(source, bytes) else str(source),
        options,
        providers=[provider.name for provider in providers],
        provider_options=[provider.options for provider in providers],
        enable_fallback=0,
    )


def _register(options: Any, library: Path) -> None:
    try:
        options.register_custom_ops_library(str(library.resolve()))
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ModelError(f"{library}: not a library of custom operators for this ONNX Runtime: {reason}") from error
