"""The TensorFlow of this process: imported quietly, and set up once, for its threads and devices are the process's."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import re
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import ModelError

__all__ = ["Runtime", "build_text", "import_tensorflow", "main", "runs_channels_first", "start", "without_chatter"]

_LOG_LEVEL = "TF_CPP_MIN_LOG_LEVEL"
_CHATTER = re.compile(rb"^(I\d{4} |\d[\d\-: .]+I tensorflow|To enable the following instructions|INFO: )")
_PREFACE = b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR"
_GPU = re.compile(r"(?:cuda|gpu)(?::(\d+))?")

_lock = threading.Lock()
_log = logging.getLogger("tensorwire.model")


@dataclass(frozen=True, slots=True)
class Runtime:
    """TensorFlow as a model uses it.

    ``tf`` is the module, ``device`` where to compute as people name it, ``place`` the same as TensorFlow does (None:
    there is only one device, and nothing has to be said), ``build`` the text of ``build_text``.
    """

    tf: Any
    device: str
    place: str | None
    build: str

    def placed(self) -> contextlib.AbstractContextManager[Any]:
        """Operations that are created or called inside run on the model's device."""
        return contextlib.nullcontext() if self.place is None else self.tf.device(self.place)


def start(path: Path, options: Options) -> Runtime:
    """Import TensorFlow and apply the options that are the process's: threads, devices, memory of GPUs.

    Raises ModelError: not installed, no such device, another model of this process has asked for other threads.
    """
    intra, inter = options.whole("intra_op_num_threads"), options.whole("inter_op_num_threads")
    growth = options.flag("memory_growth", True)
    devices = options.names("device", "cpu")
    tf = import_tensorflow(path)
    with _lock:
        _set_threads(path, tf, "intra_op", intra)
        _set_threads(path, tf, "inter_op", inter)
        gpus = tf.config.list_physical_devices("GPU")
        chosen = _chosen(path, tf, devices, gpus)
        _show(tf, [gpus[number] for number in chosen], growth)
    if not gpus:
        return Runtime(tf, "cpu", None, build_text(tf))
    if not chosen:
        return Runtime(tf, "cpu", "/CPU:0", build_text(tf))
    visible = tf.config.get_visible_devices("GPU")
    if gpus[chosen[0]] not in visible:
        raise ModelError(
            f"{path}: TensorFlow runs in this process already, without cuda:{chosen[0]}; name all GPUs in the option "
            "device of the first model, or serve this one in a process of its own"
        )
    return Runtime(tf, f"cuda:{chosen[0]}", f"/GPU:{visible.index(gpus[chosen[0]])}", build_text(tf))


def import_tensorflow(path: Path) -> Any:
    """The module. Its remarks and warnings are kept back, errors are not; with TF_CPP_MIN_LOG_LEVEL set by the user
    everything is as TensorFlow does it. Raises ModelError.
    """
    with _lock:
        if "tensorflow" in sys.modules:
            import tensorflow as tf

            return tf
        try:
            with warnings.catch_warnings(), _quietly():
                warnings.simplefilter("ignore")
                import tensorflow as tf
        except ImportError as error:
            if error.name is not None and error.name.partition(".")[0] == "tensorflow":
                raise ModelError(
                    f"{path}: TensorFlow is not installed; run: pip install 'tensorwire[tensorflow]'"
                ) from None
            raise ModelError(f"{path}: TensorFlow cannot be imported: {error}") from error
        if os.environ.get(_LOG_LEVEL) != "0":
            for logger in (tf.get_logger(), logging.getLogger("absl")):
                logger.setLevel(logging.ERROR)
        return tf


def build_text(tf: Any) -> str:
    """'TensorFlow 2.21.0 (CPU build, oneDNN on)': its version, what it was built for, and what it runs with.

    It computes something, so that threads and devices can no longer be set.
    """
    build = tf.sysconfig.get_build_info()
    cuda = build.get("cuda_version")
    made_for = f"CUDA {cuda} build" if cuda else "ROCm build" if build.get("is_rocm_build") else "CPU build"
    return f"TensorFlow {tf.__version__} ({made_for}, oneDNN {'on' if runs_channels_first(tf) else 'off'})"


@functools.cache
def runs_channels_first(tf: Any) -> bool:
    """Whether convolutions in NCHW order run on the CPU, which is what only oneDNN's do.

    A build may lack oneDNN, a processor be one for which it is off, and TF_ENABLE_ONEDNN_OPTS say what TensorFlow does
    not understand; so it is tried. What is found holds for the process: TensorFlow looks once as well.
    """
    with tf.device("/CPU:0"):
        try:
            tf.nn.conv2d(tf.zeros([1, 1, 1, 1]), tf.zeros([1, 1, 1, 1]), 1, "VALID", data_format="NCHW")
        except tf.errors.OpError:
            return False
    return True


def main() -> None:
    """Print ``build_text`` and end, for those who do not want TensorFlow in their own process."""
    print(build_text(import_tensorflow(Path())))


def _set_threads(path: Path, tf: Any, kind: str, wanted: int) -> None:
    now = getattr(tf.config.threading, f"get_{kind}_parallelism_threads")()
    if not wanted or wanted == now:
        return
    try:
        getattr(tf.config.threading, f"set_{kind}_parallelism_threads")(wanted)
    except RuntimeError:
        raise ModelError(
            f"{path}: {kind}_num_threads is {wanted}, but TensorFlow runs in this process with "
            f"{now or 'its own number'} already; all its models share the threads"
        ) from None


def _chosen(path: Path, tf: Any, devices: Sequence[str], gpus: Sequence[Any]) -> list[int]:
    """The numbers of the GPUs that were asked for; none for the CPU."""
    found: list[int] = []
    for name in devices:
        match = _GPU.fullmatch(name.lower())
        if match is None and name.lower() != "cpu":
            raise ModelError(f"{path}: option device is cpu, cuda or cuda:<number>, not {name!r}")
        if match is None:
            continue
        number = int(match[1] or 0)
        if number >= len(gpus):
            here = ", ".join(["cpu", *(f"cuda:{i}" for i in range(len(gpus)))])
            remedy = (
                ""
                if tf.sysconfig.get_build_info().get("is_cuda_build")
                else ("; this TensorFlow is built without CUDA: pip install 'tensorwire[tensorflow-gpu]'")
            )
            raise ModelError(f"{path}: no device {name!r}: there is {here}{remedy}")
        found.append(number)
    return found


def _show(tf: Any, wanted: Sequence[Any], growth: bool) -> None:
    """Let TensorFlow see the wanted GPUs alone, unless it runs already: then the models' placement has to do."""
    try:
        if tf.config.list_physical_devices("GPU"):
            tf.config.set_visible_devices(wanted, "GPU")
    except (RuntimeError, ValueError):
        pass
    try:
        for gpu in wanted:
            tf.config.experimental.set_memory_growth(gpu, growth)
    except (RuntimeError, ValueError) as error:
        if any(bool(tf.config.experimental.get_memory_growth(gpu)) != growth for gpu in wanted):
            _log.warning("memory_growth=%d has no effect: %s", growth, error)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """TensorFlow reads its log level once, while it is imported; the processes that this one starts should not."""
    if _LOG_LEVEL in os.environ:
        yield
        return
    os.environ[_LOG_LEVEL] = "2"  # errors: a request that does not fit is told to the client, not to the console
    try:
        with without_chatter():
            yield
    finally:
        del os.environ[_LOG_LEVEL]


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Keep back what is written to descriptor 2 meanwhile, and then write all of it that is no mere remark.

    The lines come from C++, some before its log level is read, so nothing but the descriptor can hold them.
    """
    with contextlib.suppress(OSError, ValueError):
        sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # no standard error at all
        yield
        return
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            with contextlib.suppress(OSError, ValueError):
                sys.stderr.flush()
            os.dup2(kept, 2)
            os.close(kept)
            held.seek(0)
            lines = [line for line in held if not _CHATTER.match(line) and line.strip() != _PREFACE]
            if lines:
                os.write(2, b"".join(lines))
