"""LightGBM: boosters in the text files that ``Booster.save_model`` writes."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tensorwire._messages import TensorSpec
from tensorwire.servers.engines.lightgbm_file import check_text, is_text
from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.tabular import TabularModel, as_classes, brief, class_outputs, read_head
from tensorwire.servers.model import Array, ModelError, RequestError

__all__ = ["ENGINE", "LgbmEngine", "make_model"]

_SUFFIXES = (".txt", ".model", ".lgb", ".lgbm")
_CLASSIFIERS = ("binary", "multiclass", "multiclassova")
_OBJECTIVE = re.compile(r"^objective=(.*)$", re.M)


class LgbmEngine:
    """Loads LightGBM's text format, known by its first lines.

    Options: ``intra_op_num_threads`` (0: LightGBM decides), ``concurrency`` (requests run at once).
    """

    name = "lightgbm"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in _SUFFIXES and path.is_file() and is_text(read_head(path))

    def prepare(self) -> None:
        import lightgbm  # noqa: F401

    def load(self, path: Path, *, options: Mapping[str, Any]) -> LgbmModel:
        """Raises ModelError: no LightGBM, not a model, one that is damaged, unknown option."""
        try:
            import lightgbm
        except ImportError:
            raise ModelError(f"{path}: LightGBM is not installed; run: pip install 'tensorwire[lightgbm]'") from None
        given = Options(self.name, options)
        check_text(path)
        try:
            booster = lightgbm.Booster(model_file=path)
        except Exception as error:
            raise ModelError(f"{path}: LightGBM {lightgbm.__version__} cannot load it: {error}") from error
        return make_model(path, booster, given)


ENGINE = LgbmEngine()


def make_model(path: Path, booster: Any, given: Options) -> LgbmModel:
    """A loaded Booster as a model named after its file. Raises ModelError."""
    return LgbmModel(path, booster, given)


class LgbmModel(TabularModel):
    """One ``lightgbm.Booster``. Classifiers answer as ``LGBMClassifier`` does, with numbers for classes.

    float32 and float64 rows are read in place, other dtypes as a copy in float32, as LightGBM does.
    """

    def __init__(self, path: Path, booster: Any, given: Options) -> None:
        import lightgbm

        self.name = path.stem
        self.engine = f"lightgbm {lightgbm.__version__}"
        self.concurrency = given.concurrency()
        threads = given.whole("intra_op_num_threads")
        given.end(path)
        self._booster: Any = booster
        self._threads = {"num_threads": threads} if threads else {}
        told = _OBJECTIVE.search(booster.model_to_string(num_iteration=1))
        self.description = told[1].strip() if told else ""
        self._is_classifier = self.description.partition(" ")[0] in _CLASSIFIERS
        names = booster.feature_name()
        facts = {
            "objective": self.description,
            "trees": str(booster.num_trees()),
            "features": brief(names),
        }
        self.facts = {key: text for key, text in facts.items() if text}
        count = booster.num_feature()
        outputs = {"predict": "", "margin": "what the trees add up to, before the objective"}
        if self._is_classifier:
            outputs |= class_outputs(range(max(booster.num_model_per_iteration(), 2)))
        x = TensorSpec("x", None, (-1, count), brief(names))
        self._declare(x, np.zeros((1, count), np.float32), outputs)

    def close(self) -> None:
        """Refuse later calls, and let go of the booster once those under way are over."""
        super().close()
        self._booster = None

    def _compute(self, x: Array, outputs: Sequence[str]) -> Mapping[str, Any]:
        booster = self._booster
        if booster is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        found: dict[str, Any] = {}
        if "margin" in outputs:
            found["margin"] = booster.predict(x, raw_score=True, **self._threads)
        if tuple(outputs) != ("margin",):
            value = booster.predict(x, **self._threads)
            found |= as_classes(value) if self._is_classifier else {"predict": value}
        return found
