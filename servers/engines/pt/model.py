"""A module of PyTorch's as a model."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.no_rows import no_rows
from tensorwire.servers.engines.pt.build import Threads, described
from tensorwire.servers.engines.pt.outputs import by_name
from tensorwire.servers.engines.pt.program import Program, weights_of
from tensorwire.servers.engines.pt.tensors import CpuTensors
from tensorwire.servers.model import (
    DEFAULT_SIGNATURE,
    Array,
    Model,
    ModelError,
    ModelFailure,
    RequestError,
    Signature,
    failure_text,
)

__all__ = ["TorchModel"]


class TorchModel(Model):
    """Calls a module in inference mode. ``run`` is safe in as many threads as the module's forward is."""

    def __init__(
        self, program: Program, path: Path, tensors: CpuTensors, device: Any, concurrency: int, threads: Threads
    ) -> None:
        import torch

        self.name = path.stem
        self.description = program.description
        self.engine = described(device)
        self.device = str(device)
        self.concurrency = concurrency
        self.facts = dict(program.facts)
        arguments = program.arguments or ()
        inputs = tuple(argument.spec for argument in arguments)
        undeclared = program.arguments is None or not program.outputs
        self.signatures = {DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, inputs, program.outputs, open=undeclared)}
        self._program: Program | None = program
        self._tensors = tensors
        self._threads = threads
        self._keys = {argument.spec.name: argument.key for argument in arguments}
        self._declared = tuple(spec.name for spec in program.outputs)
        self._inference: Any = torch.inference_mode
        self._tensor: Any = torch.Tensor
        self._script_error: type[Exception] = torch.jit.Error
        self._owned = weights_of(program.forward)[1] if device.type == "cpu" else frozenset()
        # Inputs that the module writes to are copied for it. Where that cannot be told, arrays that must not be written
        # to are copied until a call has shown that it does not. Another device has copies anyway.
        here = device.type == "cpu"
        self._written = set(program.written or ()) if here else set()
        self._proven: set[str] | None = set() if here and program.written is None else None

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """On a CPU inputs are read in place, and results are views of the tensors that the module returned; what cannot
        be is copied once. On another device there is one copy each way.

        Raises RequestError 400 for text, and for what the guards of an exported program refuse.
        """
        program = self._program
        if program is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        tensors = self._tensors
        with tensors.stream() or nullcontext():
            try:
                given = {self._keys.get(name, name): self._lent(name, x) for name, x in inputs.items()}
                args, kwargs = program.bind(given)
                with self._inference():
                    result = self._called(program, args, kwargs, no_rows(inputs))
                    found = by_name(result, self._declared)
                    wanted = [name for name in outputs if name in found] or found
                    arrays = {name: tensors.array(name, self._freed(found[name])) for name in wanted}
            finally:
                # Also after an error: the copies under way read the request's memory.
                tensors.finish()
        self._note_written(given)
        return arrays

    def close(self) -> None:
        """Give back the module once the calls under way are over; arrays that it returned stay valid."""
        self._program = None
        self._threads.release()

    def warm_up(self) -> None:
        """Call the module once with zeros, where sizes that may be any are 1; no call when a spec is open.

        Raises ModelError when the call fails.
        """
        import numpy as np

        signature = self.signatures[DEFAULT_SIGNATURE]
        if not signature.inputs or any(spec.dtype is None or not spec.shape for spec in signature.inputs):
            return
        zeros = {spec.name: np.zeros([max(size, 1) for size in spec.shape], spec.dtype) for spec in signature.inputs}
        try:
            self.run("", zeros, ())
        except Exception as error:
            raise ModelError(
                f"its first call raised {type(error).__name__}: {' '.join(str(error).split())[:300]}"
            ) from error

    def _called(self, program: Program, args: tuple[Any, ...], kwargs: dict[str, Any], remark: str) -> Any:
        try:
            return program.forward(*args, **kwargs)
        except self._script_error as error:
            raise RuntimeError(_last_error(str(error)) + remark) from None
        except (AssertionError, RuntimeError) as error:
            text = str(error)
            if text.startswith("Guard failed: "):
                raise RequestError(
                    400, f"the model takes only inputs with {text.removeprefix('Guard failed: ')}{remark}"
                ) from None
            if "TorchScript interpreter" in text:
                raise RuntimeError(_last_error(text) + remark) from None
            if remark:
                raise ModelFailure(failure_text(error) + remark) from error
            raise

    def _lent(self, name: str, x: Array) -> Any:
        if name in self._written or (self._proven is not None and not x.flags.writeable and name not in self._proven):
            x = x.copy()
        return self._tensors.lent(name, x)

    def _freed(self, value: Any) -> Any:
        """A result that is the model's own memory as a copy: a later call may change it."""
        if self._owned and isinstance(value, self._tensor) and _address(value) in self._owned:
            return value.clone()
        return value

    def _note_written(self, given: Mapping[str, Any]) -> None:
        """Remember which inputs the module wrote to: PyTorch counts that, for tensors from outside inference mode."""
        if self._proven is None:
            return
        for name, key in self._keys.items():
            if given[key]._version:
                self._written.add(name)
            self._proven.add(name)


def _address(tensor: Any) -> int:
    """Where its memory begins; 0 when it has none, or none that is dense."""
    try:
        return int(tensor.untyped_storage().data_ptr())
    except (NotImplementedError, RuntimeError):
        return 0


def _last_error(text: str) -> str:
    """What was raised in TorchScript, without the code around it."""
    found = re.findall(r"^(?:RuntimeError: |(?:[\w.]+\.)?(?=\w+: ))(.+?)\s*\Z", text, re.M | re.S)
    return found[-1] if found else text
