"""XGBoost's file formats, told apart by their first bytes and checked: of damaged files XGBoost makes a crash.

JSON and UBJSON hold the same document (https://xgboost.readthedocs.io/en/stable/tutorials/saving_model.html); what came
before is a C struct with the parameters, then the names of the objective and the booster.
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

from tensorwire.servers.engines.ubjson import parse

__all__ = ["OLD_FORMAT", "check", "document_version", "is_model", "is_old", "old_version"]

OLD_FORMAT = "XGBoost's old binary format"

_JSON = re.compile(rb'\s*\{\s*"(learner|version)"\s*:')
_UBJ = re.compile(rb"\{[UiIlL].{0,8}?(learner|version)", re.S)
_WROTE = re.compile(rb'version(?:"\s*:\s*\[(\d+),(\d+),(\d+)\]|\[#L\x00{7}\x03i(.)i(.)i(.))', re.S)
_BOOSTER = re.compile(rb"\x00(gbtree|gblinear|dart)")
_PARAMETERS = struct.Struct("<fIiiiII")  # base score, features, classes, two flags, major and minor version
_PER_NODE = ("left_children", "right_children", "split_indices", "split_conditions", "default_left")


def is_old(head: bytes) -> bool:
    """The format that was replaced by JSON."""
    return head[:1] != b"{" and len(head) >= _PARAMETERS.size and _BOOSTER.search(head[:1024]) is not None


def is_model(head: bytes) -> bool:
    """The first bytes of a file are those of an XGBoost model of any age."""
    return _JSON.match(head) is not None or _UBJ.match(head) is not None or is_old(head)


def old_version(head: bytes) -> str:
    """Who wrote a file of the old format: 'a version before 1.0', or 'version 1.7'."""
    *_, major, minor = _PARAMETERS.unpack_from(head, 4 if head.startswith(b"binf") else 0)
    return f"version {major}.{minor}" if 0 < major < 100 and minor < 1000 else "a version before 1.0"


def document_version(data: bytes) -> str:
    """The version, as '2.1.0', in bytes that have a JSON or UBJSON document somewhere; empty where there is none."""
    found = _WROTE.search(data)
    if found is None:
        return ""
    digits, numbers = found.groups()[:3], found.groups()[3:]
    return ".".join(str(int(part)) for part in digits) if digits[0] else ".".join(str(part[0]) for part in numbers)


def check(data: bytes) -> str:
    """The version of XGBoost that wrote a model in JSON or UBJSON; empty where it does not say.

    Raises ValueError that says what is wrong: cut short, not a model, trees that cannot be walked down.
    """
    try:
        document = json.loads(data) if _JSON.match(data) else parse(data)
        _check_learner(document["learner"])
        return ".".join([str(int(part)) for part in document.get("version", ())])
    except RecursionError:
        raise ValueError("brackets within brackets, too deep for a model") from None
    except KeyError as error:
        raise ValueError(f"no {error.args[0]} in it") from None
    except (TypeError, AttributeError, IndexError):
        raise ValueError("its parts are of the wrong kinds") from None


def _check_learner(learner: Mapping[str, Any]) -> None:
    features = int(learner["learner_model_param"]["num_feature"])
    booster = learner["gradient_booster"]
    if booster["name"] == "dart":
        booster = booster["gbtree"]
    model = booster["model"]
    if booster["name"] == "gblinear":
        groups = max(int(learner["learner_model_param"]["num_class"]), 1)
        groups = max(groups, int(learner["learner_model_param"].get("num_target", 1)))
        if len(model["weights"]) != (features + 1) * groups:
            raise ValueError(f"{len(model['weights'])} weights for {features} features")
        return
    trees, owners = model["trees"], model["tree_info"]
    if len(owners) != len(trees):
        raise ValueError(f"{len(trees)} trees, and groups of {len(owners)}")
    for tree in trees:
        _check_tree(tree, features)


def _check_tree(tree: Mapping[str, Any], features: int) -> None:
    """Raise ValueError when a tree is not one that can be walked down."""
    count = int(tree["tree_param"]["num_nodes"])
    found = {key: np.asarray(tree[key], np.float64) for key in _PER_NODE}
    for key, values in found.items():
        if values.shape != (count,):
            raise ValueError(f"a tree of {count} nodes with {values.size} {key}")
    left, right = (found[key].astype(np.int64) for key in _PER_NODE[:2])
    if not count or min(left.min(), right.min()) < -1 or max(left.max(), right.max()) >= count:
        raise ValueError("a tree with nodes that are not there")
    inner = left >= 0
    if (inner != (right >= 0)).any():
        raise ValueError("a node of one child")
    split = found["split_indices"][inner]
    if split.size and (split.min() < 0 or split.max() >= features):
        raise ValueError("a split by a feature that there is not")
    seen, level = 0, np.zeros(1, np.int64)
    while level.size:
        seen += level.size
        if seen > count:
            raise ValueError("a tree that does not end")
        level = level[inner[level]]
        level = np.concatenate([left[level], right[level]])
    _check_categories(tree, count)


def _check_categories(tree: Mapping[str, Any], count: int) -> None:
    keys = ("categories_nodes", "categories_segments", "categories_sizes")
    nodes, starts, sizes = (np.asarray(tree.get(key, ()), np.int64) for key in keys)
    if not nodes.size and not starts.size and not sizes.size:
        return
    known = len(tree["categories"])
    if not nodes.size == starts.size == sizes.size or min(nodes.min(), starts.min(), sizes.min()) < 0:
        raise ValueError("categories that do not fit together")
    if nodes.max() >= count or (starts + sizes).max() > known:
        raise ValueError("categories that are not there")
