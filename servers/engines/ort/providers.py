"""Execution providers: what runs a model's operators, by what the user asks for and what the build has.

Names and options: https://onnxruntime.ai/docs/execution-providers/
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.model import ModelError

__all__ = ["Provider", "check_built", "device_of", "installed_build", "not_started", "read_providers"]

_SUFFIX = "ExecutionProvider"
_CPU = "CPUExecutionProvider"
_CUDA = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
_BUILDS = {
    "onnxruntime-gpu": _CUDA,
    "onnxruntime-openvino": ("OpenVINOExecutionProvider",),
    "onnxruntime-directml": ("DmlExecutionProvider",),
    "onnxruntime-qnn": ("QNNExecutionProvider",),
    "onnxruntime-migraphx": ("MIGraphXExecutionProvider",),
    "onnxruntime-rocm": ("ROCMExecutionProvider",),
}
_NEEDS = {
    "CUDAExecutionProvider": "it needs an NVIDIA driver, CUDA and cuDNN; pip install 'tensorwire[onnx-gpu]' brings the "
    "latter two",
    "TensorrtExecutionProvider": "it needs an NVIDIA driver, CUDA, cuDNN and TensorRT (pip install tensorrt)",
    "OpenVINOExecutionProvider": "OpenVINO has no such device here",
}


@dataclass(frozen=True)
class Provider:
    """One of ONNX Runtime's execution providers, by its full name, and its options."""

    name: str
    options: dict[str, str] = field(default_factory=dict)

    @property
    def short(self) -> str:
        return self.name.removesuffix(_SUFFIX)


def read_providers(given: Options, known: Sequence[str]) -> list[Provider]:
    """The providers that the options ``providers``, ``provider_options`` and ``device`` ask for, CPU by default.

    ``known`` are the full names that this ONNX Runtime has heard of. Raises ModelError for other names, for options
    that are none, and when device and providers contradict each other.
    """
    asked = given.value("providers", ())
    parts = asked.split(",") if isinstance(asked, str) else list(asked)
    found = [_provider(part, known) for part in parts if part and (not isinstance(part, str) or part.strip())]
    kind, number = _device(given.text("device"))
    if kind in ("cuda", "auto") and not found:
        found = [Provider(_CUDA[0])]
    on_cuda = any(provider.name in _CUDA for provider in found)
    if (kind == "cuda" and not on_cuda) or (kind == "cpu" and on_cuda):
        names = ", ".join(provider.short for provider in found)
        raise ModelError(f"option device is {kind}, option providers is {names}: they contradict each other")
    if number is not None:
        for provider in found:
            if provider.name in _CUDA:
                provider.options.setdefault("device_id", number)
    _add_options(given.value("provider_options", {}), found, known)
    return found or [Provider(_CPU)]


def check_built(wanted: Sequence[Provider], available: Sequence[str], runtime: str) -> None:
    """Raises ModelError for a provider that the installed build has not, with the line that brings it."""
    for provider in wanted:
        if provider.name in available:
            continue
        here = ", ".join(name.removesuffix(_SUFFIX) for name in available)
        build = installed_build()
        text = f"{provider.short} is not in {build} {runtime}, which has {here}"
        home = next((name for name, names in _BUILDS.items() if provider.name in names), None)
        if home is None:
            raise ModelError(f"{text}; no package on PyPI brings it, ONNX Runtime has to be built with it")
        line = "'tensorwire[onnx-gpu]'" if home == "onnxruntime-gpu" else home
        raise ModelError(
            f"{text}; run: pip uninstall -y {' '.join(_builds_here())} && pip install {line} (never two builds of ONNX "
            "Runtime together)"
        )


def not_started(wanted: Sequence[Provider], running: Sequence[str], runtime: str) -> str:
    """Which of the wanted providers a session runs without, and what they need; "" when it has all."""
    missing = [provider for provider in wanted if provider.name not in running]
    texts = [
        f"{provider.short} is in {installed_build()} {runtime} and did not start on this machine"
        + (f": {_NEEDS[provider.name]}" if provider.name in _NEEDS else "")
        for provider in missing
    ]
    return "; ".join(texts)


def device_of(providers: Sequence[Provider]) -> str:
    """'cuda:0' when the first provider computes there, else 'cpu'."""
    first = providers[0]
    return f"cuda:{first.options.get('device_id', '0')}" if first.name in _CUDA else "cpu"


def installed_build() -> str:
    """The distribution that ONNX Runtime came with, several joined by ' and '."""
    return " and ".join(_builds_here())


def _builds_here() -> list[str]:
    return [name for name in ("onnxruntime", *_BUILDS) if _installed(name)] or ["onnxruntime"]


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


def _provider(part: Any, known: Sequence[str]) -> Provider:
    """'cuda', 'cuda:1', 'CUDAExecutionProvider:device_id=1;gpu_mem_limit=1000000000', or a pair of name and options."""
    if not isinstance(part, str):
        try:
            name, options = part
            return Provider(_full_name(str(name), known), {str(k): str(v) for k, v in dict(options).items()})
        except (TypeError, ValueError):
            raise ModelError(f"option providers: {part!r} is neither a name nor a pair of name and options") from None
    name, _, rest = part.strip().partition(":")
    if rest.isdigit():
        return Provider(_full_name(name, known), {"device_id": rest})
    pairs = [pair.partition("=") for pair in rest.split(";") if pair.strip()]
    for key, equals, _ in pairs:
        if not key.strip() or not equals:
            raise ModelError(f"option providers: {part!r} is not NAME:key=value;key=value")
    return Provider(_full_name(name, known), {key.strip(): value.strip() for key, _, value in pairs})


def _full_name(name: str, known: Sequence[str]) -> str:
    wanted = name.strip().lower().removesuffix(_SUFFIX.lower())
    for full in known:
        if full.removesuffix(_SUFFIX).lower() == wanted:
            return full
    names = ", ".join(full.removesuffix(_SUFFIX).lower() for full in known)
    raise ModelError(f"no execution provider {name.strip()!r}: ONNX Runtime knows {names}")


def _device(text: str) -> tuple[str, str | None]:
    """Kind and number of 'cpu', 'cuda' or 'cuda:1'; ("", None) for none."""
    kind, colon, number = text.lower().partition(":")
    if kind not in ("", "cpu", "cuda", "auto") or (colon and not (kind == "cuda" and number.isdigit())):
        raise ModelError(f"option device is cpu, cuda, cuda:NUMBER or auto, not {text!r}")
    return kind, number or None


def _add_options(value: Any, providers: Sequence[Provider], known: Sequence[str]) -> None:
    """``value``: {provider: {key: value}}, as an object or as JSON."""
    try:
        table = json.loads(value) if isinstance(value, str) else value
        entries = {_full_name(name, known): dict(options) for name, options in table.items()}
    except (AttributeError, TypeError, ValueError):
        raise ModelError(
            f'option provider_options is JSON such as {{"cuda": {{"device_id": 0}}}}, not {value!r}'
        ) from None
    for provider in providers:
        options: Mapping[str, Any] = entries.pop(provider.name, {})
        provider.options.update({str(k): str(v) for k, v in options.items()})
    if entries:
        raise ModelError(f"option provider_options has {', '.join(entries)}, which option providers does not name")
