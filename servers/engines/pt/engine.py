"""The engine of PyTorch models: which file is one, and what its options mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.pt.archive import EXPORTED, TORCHSCRIPT, foreign, format_of
from tensorwire.servers.engines.pt.build import Threads, import_torch, open_device, without_deprecations
from tensorwire.servers.engines.pt.exported import load_exported
from tensorwire.servers.engines.pt.model import TorchModel
from tensorwire.servers.engines.pt.program import Program
from tensorwire.servers.engines.pt.scripted import load_scripted
from tensorwire.servers.engines.pt.tensors import CpuTensors, DeviceTensors
from tensorwire.servers.engines.pt.weights import load_weights
from tensorwire.servers.engines.python import referred
from tensorwire.servers.engines.signature_file import Declared, declared_beside, read_declared
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import parse_specs

__all__ = ["ENGINE", "TorchEngine"]

_SUFFIXES = (".pt", ".pth", ".pt2", ".safetensors")
_NOT_COMPILED = ("", "0", "false", "no", "off")
_COMPILED = ("1", "true", "True", "yes", "on")


class TorchEngine:
    """Loads TorchScript, torch.export, state dicts and safetensors, and with ``allow_pickle`` whole modules.

    Options: ``module`` ('package.module:Class', whose weights a state dict has), ``module_args`` (a JSON list or object
    for its constructor), ``inputs`` and ``outputs`` (specs such as 'x:float32[?, 3, 224, 224]'), ``signature`` (a file
    with them; by default NAME.signature.json or .toml beside the model), ``device``, ``intra_op_num_threads``,
    ``inter_op_num_threads`` (both for all models of the process), ``concurrency``, ``compile`` (1, or the name of a
    backend of torch.compile), ``custom_ops``, ``allow_pickle``.
    """

    name = "torch"

    def recognizes(self, path: Path) -> bool:
        return path.is_file() and (path.suffix.lower() in _SUFFIXES or format_of(path) is not None)

    def prepare(self) -> None:
        import_torch(Path())

    def load(self, path: Path, *, options: Mapping[str, Any]) -> TorchModel:
        """Raises ModelError: no PyTorch, no such device, not a model, one that could run code of its maker's when it is
        read, unknown option.
        """
        if not path.is_file():
            raise ModelError(f"{path}: not a file")
        torch = import_torch(path)
        given = Options(self.name, options)
        device = open_device(given.text("device", "cpu"))
        intra, inter = given.whole("intra_op_num_threads"), given.whole("inter_op_num_threads")
        concurrency = given.concurrency()
        compiler = given.text("compile")
        custom_ops = given.files("custom_ops")
        module, module_args = given.text("module"), given.text("module_args")
        allow_pickle = given.flag("allow_pickle")
        said = _declared(path, given)
        given.end(path)
        for library in custom_ops:
            _load_operators(library)
        threads = Threads(intra, inter)
        try:
            tensors = CpuTensors() if device.type == "cpu" else DeviceTensors(device)
            program = _load(path, device, tensors, module, module_args, allow_pickle)
            program = _fitted(path, program, said)
            if compiler not in _NOT_COMPILED:
                with without_deprecations():
                    program = _compiled(path, program, compiler)
            if device.type == "cuda":
                torch.cuda.synchronize(device)  # the weights came on another stream than requests run on
            model = TorchModel(program, path, tensors, device, concurrency, threads)
            if compiler not in _NOT_COMPILED:
                _warm_up(path, model)
        except BaseException:
            threads.release()
            raise
        return model


ENGINE = TorchEngine()


def _load(path: Path, device: Any, tensors: CpuTensors, module: str, module_args: str, allow_pickle: bool) -> Program:
    kind = format_of(path)
    if kind is None:
        raise ModelError(f"{path}: not a PyTorch model: {foreign(path)}")
    if kind in (TORCHSCRIPT, EXPORTED):
        if module or module_args:
            raise ModelError(f"{path}: holds its own code ({kind}); leave out the options module and module_args")
        if kind == TORCHSCRIPT:
            return load_scripted(path, device, tensors)
        return load_exported(path, device, tensors, allow_pickle)
    if module and ":" not in module:
        raise ModelError(f"option module is package.module:Class, not {module!r}")
    made_by = referred(Path(module)) if module else None
    if made_by is not None and not callable(made_by):
        raise ModelError(f"option module: {module} is a {type(made_by).__name__}, not a class")
    return load_weights(path, device, format=kind, module=made_by, module_args=module_args, allow_pickle=allow_pickle)


def _declared(path: Path, given: Options) -> Declared:
    """What the user says of the inputs and outputs: by options, else by a file."""
    file = given.text("signature")
    said = read_declared(Path(file).expanduser()) if file else declared_beside(path)
    inputs, outputs = (parse_specs(",".join(given.names(side))) for side in ("inputs", "outputs"))
    return replace(said, inputs=inputs or said.inputs, outputs=outputs or said.outputs)


def _fitted(path: Path, program: Program, said: Declared) -> Program:
    try:
        return program.declared(said)
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from None


def _compiled(path: Path, program: Program, compiler: str) -> Program:
    import torch

    if program.facts.get("format") == TORCHSCRIPT:
        raise ModelError(f"{path}: TorchScript has its own compiler; leave out the option compile")
    backend = "inductor" if compiler in _COMPILED else compiler
    known = torch.compiler.list_backends(exclude_tags=())
    if backend not in known:
        raise ModelError(f"option compile is 1 or a backend of torch.compile ({', '.join(known)}), not {compiler!r}")
    facts = {**program.facts, "compiled by": backend}
    return replace(program, forward=torch.compile(program.forward, backend=backend), facts=facts)


def _warm_up(path: Path, model: TorchModel) -> None:
    try:
        with without_deprecations():
            model.warm_up()
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error


def _load_operators(library: Path) -> None:
    import torch

    try:
        torch.ops.load_library(str(library.resolve()))
    except OSError as error:
        raise ModelError(f"{library}: not a library of operators for PyTorch {torch.__version__}: {error}") from error
