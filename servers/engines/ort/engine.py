"""The engine ``onnx``: what it recognizes, and how it loads a model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.ort.errors import load_failure
from tensorwire.servers.engines.ort.external import check_external
from tensorwire.servers.engines.ort.facts import is_onnx, read_onnx
from tensorwire.servers.engines.ort.model import OrtModel
from tensorwire.servers.engines.ort.providers import Provider, check_built, device_of, not_started, read_providers
from tensorwire.servers.engines.ort.redeclare import differing, redeclare, wanted_inputs
from tensorwire.servers.engines.ort.session import add_contrib, open_session, session_options
from tensorwire.servers.engines.ort.upgrade import OLDEST, upgrade
from tensorwire.servers.model import ModelError

__all__ = ["ENGINE", "OrtEngine", "available_providers"]

_SUFFIXES = (".onnx", ".ort")
_OTHER_SUFFIXES = (".proto", ".pb", ".bin", "")  # under which ONNX files were saved in its first years

_log = logging.getLogger("tensorwire.model")


class OrtEngine:
    """Loads ONNX models and ONNX Runtime's own .ort files.

    Options: ``device`` ('cpu', 'cuda:1', or 'auto': CUDA where it is there), ``providers`` (execution providers in
    order of preference: 'cuda', 'tensorrt:device_id=1', a list or text with commas; default CPU),
    ``provider_options`` (JSON by provider), ``fallback`` (1: go on without a provider that is missing or does not
    start), ``value_inputs`` (a JSON file with other sizes of the inputs), ``custom_ops`` (libraries of operators),
    ``intra_op_num_threads`` and ``inter_op_num_threads`` (0: ONNX Runtime decides), ``concurrency`` (requests run at
    once), ``allow_spinning`` (1: idle threads keep a core busy for a faster start), ``graph_optimization_level``
    (disable, basic, extended, all), ``execution_mode`` (sequential, parallel), ``enable_cpu_mem_arena``,
    ``enable_mem_pattern``, ``profile`` (a prefix of files), ``log_severity_level``, and any of ONNX Runtime's own
    session entries by its dotted name.
    """

    name = "onnx"

    def recognizes(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        if not path.is_file():
            return False
        return suffix in _SUFFIXES or (suffix in _OTHER_SUFFIXES and is_onnx(path))

    def prepare(self) -> None:
        import onnxruntime  # noqa: F401

    def load(self, path: Path, *, options: Mapping[str, Any]) -> OrtModel:
        """Raises ModelError: no ONNX Runtime, not a model or one too new for it, unknown option."""
        return self._open(path, path, options)

    def load_bytes(self, content: bytes, path: Path, *, options: Mapping[str, Any]) -> OrtModel:
        """A model that was made in memory; ``path`` names it, and stands in its errors. Raises as ``load`` does."""
        return self._open(content, path, options)

    def _open(self, source: Path | bytes, path: Path, options: Mapping[str, Any]) -> OrtModel:
        try:
            import onnxruntime as ort
        except ImportError:
            raise ModelError(f"{path}: ONNX Runtime is not installed; run: pip install 'tensorwire[onnx]'") from None
        given = Options(self.name, options)
        auto = str(options.get("device", "")).strip().lower() == "auto"
        wanted = read_providers(given, ort.get_all_providers())
        fallback = given.flag("fallback", auto)
        inputs = given.value("value_inputs")
        made = session_options(given)
        concurrency = given.concurrency()
        given.end(path)
        level = logging.INFO if auto else logging.WARNING
        providers = _usable(wanted, ort.get_available_providers(), ort.__version__, level) if fallback else wanted
        check_built(providers, ort.get_available_providers(), ort.__version__)
        file = read_onnx(source)
        if file is not None and isinstance(source, Path):
            check_external(path, file.externals)
        add_contrib(made, path, file)
        facts = file.facts(path.parent) if file is not None else {}
        opset = file.opset if file is not None and file.has_graph else None
        try:
            session = _opened(source, made, providers, path)
        except ModelError:
            if opset is None or opset >= OLDEST or isinstance(source, bytes):
                raise
            source = upgrade(path, opset)
            facts["upgraded"] = f"from opset {opset} to {OLDEST}, by onnx"
            session = _opened(source, made, providers, path)
        if inputs and (changed := differing(path, session.get_inputs(), wanted_inputs(inputs))):
            source = redeclare(source, path, changed)
            session = _opened(source, made, providers, path)
        if missing := not_started(providers, session.get_providers(), ort.__version__):
            if not fallback:
                raise ModelError(f"{path}: {missing}")
            _log.log(level, "%s: %s; going on without", path, missing)
            providers = [each for each in providers if each.name in session.get_providers()] or [
                Provider("CPUExecutionProvider")
            ]
        return OrtModel(session, source, path, file, facts, device=device_of(providers), concurrency=concurrency)


ENGINE = OrtEngine()


def available_providers() -> list[str]:
    """The execution providers of the ONNX Runtime that is installed, by its names. Raises ImportError."""
    import onnxruntime as ort

    return list(ort.get_available_providers())


def _opened(source: Path | bytes, options: Any, providers: list[Provider], path: Path) -> Any:
    """A session. Raises ModelError that says why there is none."""
    import onnxruntime as ort

    try:
        return open_session(source, options, providers)
    except Exception as error:
        raise ModelError(load_failure(path, str(error), ort.__version__)) from error


def _usable(wanted: list[Provider], available: list[str], runtime: str, level: int) -> list[Provider]:
    """Those of the wanted providers that the build has, or the CPU's; says which it has not."""
    for provider in wanted:
        if provider.name not in available:
            _log.log(level, "%s is not in this ONNX Runtime %s; going on without", provider.short, runtime)
    return [provider for provider in wanted if provider.name in available] or [Provider("CPUExecutionProvider")]
