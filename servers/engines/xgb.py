"""XGBoost: boosters in .json and .ubj files; the old binary format is named, with the way out of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.tabular import TabularModel, as_classes, brief, class_outputs, read_head, softmax
from tensorwire.servers.engines.xgboost_file import OLD_FORMAT, check, is_model, is_old, old_version
from tensorwire.servers.model import Array, ModelError, RequestError

__all__ = ["ENGINE", "XgbEngine", "make_model", "old_format"]

_SUFFIXES = (".json", ".ubj", ".bst", ".model", ".xgb")
_CLASSIFIERS = ("binary:logistic", "multi:softprob", "multi:softmax")
_MARGIN = "what the trees add up to, before the objective"


class XgbEngine:
    """Loads what ``Booster.save_model`` and ``XGBModel.save_model`` write, known by its first bytes.

    Options: ``intra_op_num_threads`` (0: XGBoost decides), ``concurrency`` (requests run at once).
    """

    name = "xgboost"

    def recognizes(self, path: Path) -> bool:
        suffix = path.suffix.lower()
        return suffix in _SUFFIXES and path.is_file() and (suffix == ".ubj" or is_model(read_head(path)))

    def prepare(self) -> None:
        import xgboost  # noqa: F401

    def load(self, path: Path, *, options: Mapping[str, Any]) -> XgbModel:
        """Raises ModelError: no XGBoost, not a model, the old format, unknown option."""
        try:
            import xgboost
        except ImportError:
            raise ModelError(f"{path}: XGBoost is not installed; run: pip install 'tensorwire[xgboost]'") from None
        given = Options(self.name, options)
        head = read_head(path)
        if is_old(head):
            raise ModelError(f"{path}: {old_format(old_version(head))}")
        if not is_model(head):
            raise ModelError(f"{path}: {'not an XGBoost model' if head else 'the file is empty'}")
        data = path.read_bytes()
        try:
            wrote = check(data)
        except ValueError as error:
            raise ModelError(f"{path}: not an XGBoost model, or cut short: {error}") from None
        try:
            booster = xgboost.Booster(model_file=bytearray(data))
        except Exception as error:
            raise ModelError(f"{path}: XGBoost {xgboost.__version__} cannot load it: {_plain(error)}") from error
        return make_model(path, booster, given, wrote)


ENGINE = XgbEngine()


def make_model(path: Path, booster: Any, given: Options, wrote: str = "") -> XgbModel:
    """A loaded Booster as a model named after its file; ``wrote`` is the version in it. Raises ModelError."""
    import xgboost

    try:
        return XgbModel(path, booster, given, wrote)
    except (xgboost.core.XGBoostError, KeyError) as error:
        raise ModelError(f"{path}: XGBoost {xgboost.__version__} cannot use it: {_plain(error)}") from error


def old_format(wrote: str = "") -> str:
    """What to do about the old format, which is in old pickles too; ``wrote`` names the version, if it is known."""
    import xgboost

    by = f", written by {wrote}" if wrote else ""
    return (
        f"{OLD_FORMAT}{by}, which XGBoost {xgboost.__version__} does not read. Load it with an older one "
        "(pip install 'xgboost<3') and save it anew: booster.save_model('model.json')"
    )


class XgbModel(TabularModel):
    """One ``xgboost.Booster``. Classifiers answer as ``XGBClassifier`` does, with numbers for classes.

    Rows are read in place (``inplace_predict``); only linear boosters need a copy of them (DMatrix). A file that
    XGBModel wrote is run up to its best iteration, as XGBModel does; one of a Booster with all its trees.
    """

    def __init__(self, path: Path, booster: Any, given: Options, wrote: str) -> None:
        import xgboost

        self.name = path.stem
        self.engine = f"xgboost {xgboost.__version__}"
        self.concurrency = given.concurrency()
        threads = given.whole("intra_op_num_threads")
        given.end(path)
        if threads:
            booster.set_param({"nthread": threads})
        learner = json.loads(booster.save_config())["learner"]
        self._objective = learner["objective"]["name"]
        self._linear = learner["gradient_booster"]["name"] == "gblinear"
        self._booster: Any = booster
        self._matrix = xgboost.DMatrix
        best = booster.attr("best_iteration") if booster.attr("scikit_learn") is not None else None
        self._range = (0, int(best) + 1 if best is not None else 0)
        names = booster.feature_names or ()
        self.description = self._objective
        facts = {
            "written by": f"XGBoost {wrote}" if wrote else "",
            "objective": self._objective,
            "trees": "" if self._linear else str(booster.num_boosted_rounds()),
            "features": brief(names),
        }
        self.facts = {key: text for key, text in facts.items() if text}
        outputs = {"predict": "", "margin": _MARGIN}
        if self._objective in _CLASSIFIERS:
            outputs |= class_outputs(range(max(int(learner["learner_model_param"]["num_class"]), 2)))
        count = booster.num_features()
        x = TensorSpec("x", None, (-1, count), brief(names))
        self._declare(x, np.zeros((1, count), np.float32), outputs)

    def close(self) -> None:
        """Refuse later calls, and let go of the booster once those under way are over."""
        super().close()
        self._booster = None

    def _compute(self, x: Array, outputs: Sequence[str]) -> Mapping[str, Any]:
        found: dict[str, Any] = {}
        softmax_labels = self._objective == "multi:softmax"
        if "margin" in outputs or (softmax_labels and "predict_proba" in outputs):
            found["margin"] = self._predict(x, margin=True)
        if tuple(outputs) == ("margin",):
            return found
        if softmax_labels:
            if "predict_proba" in outputs:
                found["predict_proba"] = softmax(found["margin"])
            if "predict" in outputs:
                found["predict"] = self._predict(x).astype(np.int64)
            return found
        value = self._predict(x)
        if self._objective not in _CLASSIFIERS:
            return found | {"predict": value.astype(np.int64) if self._objective == "binary:hinge" else value}
        if self._objective == "binary:logistic" and value.ndim == 2:  # several targets, each yes or no
            return found | {"predict": (value > 0.5).astype(np.int64), "predict_proba": value}
        return found | as_classes(value)

    def _predict(self, x: Array, margin: bool = False) -> Array:
        booster = self._booster
        if booster is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        found: Array
        if self._linear:
            found = booster.predict(self._matrix(x), output_margin=margin, validate_features=False)
        else:
            kind = "margin" if margin else "value"
            rows = np.ascontiguousarray(x)
            found = booster.inplace_predict(
                rows, iteration_range=self._range, predict_type=kind, validate_features=False
            )
        return found


def _plain(error: Exception) -> str:
    """XGBoost's error on one line, without the time, where in its source it arose, and the stack."""
    # Some of its messages are not UTF-8.
    text = error.object.decode("ascii", "replace") if isinstance(error, UnicodeDecodeError) else str(error)
    text = text.partition("Stack trace:")[0].partition("] ")[2] or text
    return " ".join(text.partition(": ")[2].split()) if text.startswith("/") else " ".join(text.split())
