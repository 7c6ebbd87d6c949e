"""The identity: what comes in goes out. For benchmarks of the way to a model, and to try out a client."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tensorwire.servers.model import DEFAULT_SIGNATURE, Array, Model, RequestError, Signature, quoted

__all__ = ["EchoModel"]


class EchoModel(Model):
    """Any number of tensors of any name, dtype and shape; the outputs are the inputs, in order, under their
    names.

    An output asked for by name is the input of that name, or else the input at the place at which it was
    asked for.
    """

    version = "1"
    description = "Sends every tensor back as it came."
    engine = "echo"
    inline = True

    def __init__(self, name: str = "echo") -> None:
        self.name = name
        self.signatures = {DEFAULT_SIGNATURE: Signature(DEFAULT_SIGNATURE, (), (), open=True)}

    def run(self, signature: str, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """The inputs themselves, no copies. Raises RequestError 404 for an output without an input."""
        if not outputs:
            return inputs
        arrays = tuple(inputs.values())
        results = {}
        for place, name in enumerate(outputs):
            if name in inputs:
                results[name] = inputs[name]
            elif place < len(arrays):
                results[name] = arrays[place]
            else:
                raise RequestError(
                    400, f"unknown output {quoted(name)}: {len(arrays)} tensors came to be echoed"
                )
        return results
