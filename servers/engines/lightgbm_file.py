"""LightGBM's text format, checked before LightGBM reads it: of a damaged file it makes a crash of the process.

The format is what https://github.com/microsoft/LightGBM/blob/master/src/boosting/gbdt_model_text.cpp writes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tensorwire.servers.model import ModelError

__all__ = ["check_text", "is_text"]

_START = re.compile(rb"tree\r?\n")
_FIELD = re.compile(rb"^(\w+)=(.*)$", re.M)
_MOST_LEAVES = 1 << 24


def is_text(head: bytes) -> bool:
    """The first bytes of a file are those of a LightGBM model."""
    return _START.match(head) is not None and b"version=v" in head[:64]


def check_text(path: Path) -> Mapping[str, str]:
    """The header's fields by name: objective, feature_names, num_class, ... Raises ModelError for a damaged file."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: {error.strerror}") from None
    if not is_text(data):
        raise ModelError(f"{path}: not a LightGBM model: it begins with tree and version=v4, say")
    first = data.find(b"Tree=")
    header = data if first < 0 else data[:first]
    fields = {key.decode(): text.strip().decode(errors="replace") for key, text in _FIELD.findall(header)}
    try:
        features = int(fields["max_feature_idx"]) + 1
        if int(fields["num_class"]) < 1 or int(fields["num_tree_per_iteration"]) < 1 or features < 1:
            raise ValueError("no classes or no features")
        sizes = [int(size) for size in fields["tree_sizes"].split()]
        at = max(first, 0)
        for number, size in enumerate(sizes):
            text = data[at : at + size]
            if size < 1 or len(text) < size or not text.startswith(b"Tree=%d\n" % number):
                raise ValueError(f"tree {number} is not where it should be")
            _check_tree(dict(_FIELD.findall(text)), features)
            at += size
        if not data.startswith(b"end of trees", at):
            raise ValueError("the end of the trees is missing")
    except (KeyError, ValueError, OverflowError) as error:
        reason = f"no {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path}: not a whole LightGBM model, or cut short: {reason}") from None
    return fields


def _check_tree(tree: Mapping[bytes, bytes], features: int) -> None:
    """Raise ValueError or KeyError when a tree is not one that can be walked down."""
    leaves = int(tree[b"num_leaves"])
    if not 1 <= leaves <= _MOST_LEAVES:
        raise ValueError(f"a tree of {leaves} leaves")
    _numbers(tree, b"leaf_value", leaves)
    if leaves == 1:
        return
    inner = leaves - 1
    _numbers(tree, b"threshold", inner)
    split = _numbers(tree, b"split_feature", inner)
    if split.min() < 0 or split.max() >= features:
        raise ValueError("a split by a feature that there is not")
    below = np.arange(inner)
    for side in (b"left_child", b"right_child"):
        child = _numbers(tree, side, inner)
        # Inner nodes are numbered as they were split, those further down later; leaf n is -n - 1.
        if (child < -leaves).any() or (child >= inner).any() or ((child >= 0) & (child <= below)).any():
            raise ValueError("a tree that does not end")
    _check_categories(tree, inner)


def _check_categories(tree: Mapping[bytes, bytes], inner: int) -> None:
    count = int(tree[b"num_cat"])
    kinds = _numbers(tree, b"decision_type", inner)
    chosen = _numbers(tree, b"threshold", inner)[(kinds.astype(np.int64) & 1).astype(bool)]
    if not count and not len(chosen):
        return
    bounds = _numbers(tree, b"cat_boundaries", count + 1)
    words = tree[b"cat_threshold"].split()
    if bounds[0] != 0 or (np.diff(bounds) < 0).any() or bounds[-1] != len(words):
        raise ValueError("categories that are not there")
    if len(chosen) and (chosen.min() < 0 or chosen.max() >= count):
        raise ValueError("a split by categories that are not there")


def _numbers(tree: Mapping[bytes, bytes], key: bytes, count: int) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """The numbers of a field, as many as there must be. Raises KeyError without the field, ValueError."""
    if key not in tree:
        raise KeyError(key.decode())
    found = np.array(tree[key].split(), np.float64)
    if len(found) != count:
        raise ValueError(f"{len(found)} numbers in {key.decode()}, not {count}")
    return found
