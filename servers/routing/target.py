"""What a request's address means: which model, version and signature."""

from __future__ import annotations

from dataclasses import dataclass

from tensorwire._messages import Request
from tensorwire.servers.model import RequestError, quoted

__all__ = ["ANY", "Target"]


@dataclass(frozen=True, slots=True)
class Target:
    """Which model, version and signature is meant; '' and None leave it to the server. A label stands for a version."""

    model: str = ""
    version: int | None = None
    label: str = ""
    signature: str = ""

    @classmethod
    def of(cls, request: Request) -> Target:
        """What a request's own fields say. On the wire, version 0 is no version."""
        if not (request.model or request.version or request.label or request.signature):
            return ANY
        return cls(request.model, request.version or None, request.label, request.signature)

    def joined(self, request: Request) -> Target:
        """This, completed by what the request says. Raises RequestError 400 where the two contradict."""
        own = Target.of(request)
        if own is ANY:
            return self
        if self.model and own.model not in ("", self.model):
            raise RequestError(
                400, f"the URL is that of model {quoted(self.model)}, the request names {quoted(own.model)}"
            )
        if self.version is None and not self.label:
            version, label = own.version, own.label
        else:
            version, label = self.version, self.label
            if (own.version not in (None, version)) or (own.label and own.label != label):
                raise RequestError(400, "the URL and the request name different versions")
        if self.signature and own.signature not in ("", self.signature):
            raise RequestError(400, "the URL and the request name different signatures")
        return Target(self.model or own.model, version, label, self.signature or own.signature)


ANY = Target()
"""The default model, its newest version, its default signature."""
