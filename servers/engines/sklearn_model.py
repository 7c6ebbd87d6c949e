"""One scikit-learn estimator, or anything with its methods, as a model."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import Options
from tensorwire.servers.engines.sklearn_inputs import decoded, input_of
from tensorwire.servers.engines.tabular import TabularModel, brief, class_outputs
from tensorwire.servers.model import Array, RequestError
from tensorwire.servers.spec_text import parse_specs

_log = logging.getLogger("tensorwire.engines")

__all__ = ["METHODS", "SklearnModel"]

METHODS = ("predict", "predict_proba", "decision_function", "score_samples", "transform")


class SklearnModel(TabularModel):
    """Calls the methods of an estimator: each that it has and that works is an output.

    A method that gives a list, as classifiers of several targets do, is as many outputs: ``predict_proba_0``, ...
    ``run`` is safe in several threads, as scikit-learn's fitted estimators are.
    """

    _refusals = (ValueError,)

    def __init__(self, path: Path, estimator: Any, given: Options, engine: str, wrote: str = "") -> None:
        """``engine``: the library in use; ``wrote``: the version of scikit-learn in the file.

        Raises ModelError, and what the estimator raises.
        """
        self.name = path.stem
        self.engine = engine
        self.concurrency = given.concurrency()
        self._threads = given.whole("intra_op_num_threads")
        declared = parse_specs(given.text("inputs"))
        given.end(path)
        self._estimator = estimator
        self._limited = threading.local()
        names = [str(name) for name in getattr(estimator, "feature_names_in_", ())]
        classes = getattr(estimator, "classes_", None)
        self.description = " > ".join([type(step).__name__ for step in _steps(estimator)])
        facts = {
            "written by": f"scikit-learn {wrote}" if wrote else "",
            "features": brief(names),
            "classes": "" if classes is None or isinstance(classes, list) else brief(classes),
        }
        self.facts = {key: text for key, text in facts.items() if text}
        if self._threads:
            jobs = {key: self._threads for key in estimator.get_params() if key.rpartition("__")[2] == "n_jobs"}
            estimator.set_params(**jobs)
        # Rows of the wire have no names, and a warning for each of them would not change that.
        warnings.filterwarnings("ignore", "X does not have valid feature names", UserWarning)
        x, samples = input_of(path, _steps(estimator)[0], estimator, names, declared)
        self._is_text = x.dtype is not None and x.dtype.kind == "O"
        self._sources: dict[str, tuple[str, int | None]] = {}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the sample is no real row
            sample = self._probe(samples)
            self._declare(x, sample, {name: _about(name, place, classes) for name, (_, place) in self._sources.items()})

    def close(self) -> None:
        """Refuse later calls, and let go of the estimator once those under way are over."""
        super().close()
        self._estimator = None

    def _probe(self, samples: Sequence[Array]) -> Array:
        """Find the methods that work, with the first sample for which one does; raises what the first one raised."""
        failed: Exception | None = None
        for sample in samples:
            for method in METHODS:
                if not hasattr(self._estimator, method):
                    continue
                try:
                    value = self._call(self._estimator, method, sample)
                except Exception as error:
                    _log.debug("%s of %s does not work", method, self.name, exc_info=True)
                    failed = failed or error
                    continue
                several = range(len(value)) if isinstance(value, list) else (None,)
                self._sources |= {f"{method}_{i}" if i is not None else method: (method, i) for i in several}
            if self._sources:
                return sample
        if failed is None:
            raise TypeError(f"it has none of {', '.join(METHODS)}")
        raise failed

    def _compute(self, x: Array, outputs: Sequence[str]) -> Mapping[str, Any]:
        estimator = self._estimator
        if estimator is None:
            raise RequestError(503, f"model {self.name!r} is closed")
        if self._is_text:
            x = decoded(x)
        if self._threads and not getattr(self._limited, "done", False):
            # OpenMP's limit is a thread's own.
            from threadpoolctl import threadpool_limits

            self._limited.done = threadpool_limits(self._threads)
        found: dict[str, Any] = {}
        values: dict[str, Any] = {}
        for name in outputs:
            method, place = self._sources[name]
            if method not in values:
                values[method] = self._call(estimator, method, x)
            found[name] = values[method] if place is None else values[method][place]
        return found

    @staticmethod
    def _call(estimator: Any, method: str, x: Array) -> Any:
        value = getattr(estimator, method)(x)
        return value.toarray() if hasattr(value, "toarray") else value


def _steps(estimator: Any) -> list[Any]:
    """The parts that rows go through, one after the other, of pipelines in pipelines and of searches."""
    inner = getattr(estimator, "best_estimator_", None)
    if inner is not None:
        return _steps(inner)
    steps = [step for _, step in getattr(estimator, "steps", ()) if step is not None and not isinstance(step, str)]
    return [part for step in steps for part in _steps(step)] or [estimator]


def _about(name: str, place: int | None, classes: Any) -> str:
    """The description of an output: which class is which column."""
    several = isinstance(classes, list)
    if classes is None or (several and place is None):
        return ""
    of = classes[place] if several and place is not None else classes
    return class_outputs(of).get(name if place is None else name.rpartition("_")[0], "")
