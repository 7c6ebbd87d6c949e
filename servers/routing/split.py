"""The choice among weighted versions: by chance, or by a request's id, so that one id stays with one version."""

from __future__ import annotations

import random
from collections.abc import Sequence
from hashlib import blake2b
from itertools import accumulate
from math import log

__all__ = ["Split", "share_of"]

_RANGE = 2.0**64


class Split:
    """Versions with weights above 0, each with the name that it has in the configuration.

    An id is given to a version by weighted rendezvous hashing (https://en.wikipedia.org/wiki/Rendezvous_hashing): each
    name draws a number from the id, and the best one for its weight gets it. So ids stay where they are across
    restarts and processes; when a weight grows, ids move to that version only, and when a version is not there, only
    its own ids move, in the proportion of the others' weights.
    """

    def __init__(self, versions: Sequence[tuple[str, float, int]]) -> None:
        """``versions``: name, weight and number of each; at least one."""
        self._numbers = [number for _, _, number in versions]
        self._weights = [weight for _, weight, _ in versions]
        self._names = [name.encode() for name, _, _ in versions]
        self._sums = list(accumulate(self._weights))

    def choose(self, request_id: str) -> int:
        """The number of the version for a request; '' is an id of nobody, and is given out by chance."""
        if len(self._numbers) == 1:
            return self._numbers[0]
        if not request_id:
            return random.choices(self._numbers, cum_weights=self._sums)[0]
        key = request_id.encode("utf-8", "surrogatepass")
        scores = [weight / -log(_draw(key, name)) for name, weight in zip(self._names, self._weights, strict=True)]
        return self._numbers[scores.index(max(scores))]


def share_of(request_id: str, share: float) -> bool:
    """True for this share of all ids, always the same ones; '' by chance."""
    if share >= 1:
        return True
    if not request_id:
        return random.random() < share
    return _draw(request_id.encode("utf-8", "surrogatepass"), b"\0share") <= share


def _draw(key: bytes, name: bytes) -> float:
    """A number above 0 and below 1, the same for the same id and name."""
    digest = blake2b(key, digest_size=8, person=blake2b(name, digest_size=16).digest()).digest()
    return (int.from_bytes(digest, "little") + 0.5) / (_RANGE + 1)
