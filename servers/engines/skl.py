"""scikit-learn: estimators and pipelines in .skops files, and in pickles of those whom one trusts."""

from __future__ import annotations

import logging
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tensorwire.servers.engines.options import ALLOW_PICKLE, Options
from tensorwire.servers.engines.pickles import Notes, read_notes
from tensorwire.servers.engines.sklearn_model import METHODS, SklearnModel
from tensorwire.servers.model import Model, ModelError

__all__ = ["ENGINE", "SklearnEngine"]

_SKOPS = (".skops",)
_PICKLES = (".joblib", ".pkl", ".pickle")
_VERSION = re.compile(r'"_sklearn_version": \{[^{}]*?"content": "\\"([\w.]{1,40})\\""')
_LARGEST_SCHEMA = 64 << 20  # bytes; a hostile zip file could unpack to any size

_log = logging.getLogger("tensorwire.engines")


class SklearnEngine:
    """Loads .skops files, and .joblib, .pkl and .pickle files of scikit-learn, XGBoost and LightGBM.

    Options: ``allow_pickle`` (the last three run whatever code their maker put in), ``trusted`` (names of types in a
    .skops file that skops does not know, with commas), ``concurrency`` (requests run at once),
    ``intra_op_num_threads`` (n_jobs of all parts, and threads of BLAS and OpenMP; 0: as the file and they say),
    ``inputs`` (one spec, for a model that takes text or whose number of features is not known).
    """

    name = "sklearn"

    def recognizes(self, path: Path) -> bool:
        return path.suffix.lower() in (*_SKOPS, *_PICKLES) and path.is_file()

    def prepare(self) -> None:
        import sklearn  # noqa: F401

    def load(self, path: Path, *, options: Mapping[str, Any]) -> Model:
        """Raises ModelError: no scikit-learn, not a model, one of another version, a pickle that is not allowed."""
        given = Options(self.name, options)
        allowed = given.flag("allow_pickle")
        trusted = given.names("trusted")
        if path.suffix.lower() in _SKOPS:
            return _model(path, _load_skops(path, trusted), given, Notes(sklearn=_skops_version(path)))
        notes = read_notes(path)
        if not allowed:
            raise ModelError(f"{path}: {_about(notes)}: reading it runs any code that its maker put in. {_ADVICE}")
        return _model(path, _load_pickle(path, notes), given, notes)


_ADVICE = (
    f"Give {ALLOW_PICKLE} if you trust its maker; .skops files and XGBoost's .json and .ubj need no such trust"
)

ENGINE = SklearnEngine()


def _model(path: Path, thing: Any, given: Options, notes: Notes) -> Model:
    """The engine's model of what a file held."""
    import sklearn

    kind = type(thing)
    home = f"{kind.__module__.partition('.')[0]}.{kind.__name__}"
    if home == "xgboost.Booster":
        from tensorwire.servers.engines import xgb

        return xgb.make_model(path, thing, given, notes.xgboost.removeprefix("version "))
    if home == "lightgbm.Booster":
        from tensorwire.servers.engines import lgbm

        return lgbm.make_model(path, thing, given)
    if not any(hasattr(thing, method) for method in METHODS):
        raise ModelError(
            f"{path}: holds a {kind.__module__}.{kind.__qualname__}, which has none of {', '.join(METHODS)}"
        )
    try:
        return SklearnModel(path, thing, given, f"scikit-learn {sklearn.__version__}", notes.sklearn)
    except ModelError:
        raise
    except Exception as error:
        raise ModelError(_failure(path, error, notes)) from error


def _load_skops(path: Path, trusted: list[str]) -> Any:
    try:
        import sklearn  # noqa: F401
        import skops.io
    except ImportError:
        raise ModelError(f"{path}: {_MISSING}") from None
    notes = Notes(sklearn=_skops_version(path))
    with _told(path):
        try:
            unknown = [name for name in skops.io.get_untrusted_types(file=path) if name not in trusted]
            if not unknown:
                return skops.io.load(path, trusted=trusted)
        except (zipfile.BadZipFile, KeyError, EOFError) as error:
            reason = str(error) if isinstance(error, zipfile.BadZipFile) else "no model in it"
            raise ModelError(f"{path}: not a skops file, or cut short: {reason}") from None
        except Exception as error:
            raise ModelError(_failure(path, error, notes)) from error
    names = ",".join(unknown)
    raise ModelError(f"{path}: skops does not trust {', '.join(unknown)}; if you do: --option trusted={names}")


_MISSING = "scikit-learn is not installed; run: pip install 'tensorwire[sklearn]'"


def _load_pickle(path: Path, notes: Notes) -> Any:
    try:
        import joblib
        import sklearn  # noqa: F401
    except ImportError:
        raise ModelError(f"{path}: {_MISSING}") from None
    with _told(path):
        try:
            return joblib.load(path)
        except (Exception, SystemExit) as error:
            raise ModelError(_failure(path, error, notes)) from error


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Warnings of a load, such as that another version wrote the file, go to the log, each once."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for text in dict.fromkeys(" ".join(str(warning.message).split()) for warning in caught):
        _log.warning("%s: %s", path, text)


def _failure(path: Path, error: BaseException, notes: Notes) -> str:
    """Why a file cannot be read, or what was in it cannot be run, and what to do."""
    import sklearn

    reason = " ".join(f"{type(error).__name__}: {error}".split())
    if notes.sklearn and notes.sklearn != sklearn.__version__:
        return (
            f"{path}: written by scikit-learn {notes.sklearn}, which {sklearn.__version__} does not read: {reason}. "
            f"Install scikit-learn=={notes.sklearn}, or make the model anew with {sklearn.__version__}"
        )
    if any(name.startswith("xgboost.") for name in notes.names) and "Check failed" in reason:
        from tensorwire.servers.engines import xgb

        return f"{path}: a pickle of {notes.names[0]}, in {xgb.old_format(notes.xgboost)}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"{path}: needs the module {error.name!r}, which is not installed"
    return f"{path}: {_about(notes)} that cannot be used: {reason}"


def _about(notes: Notes) -> str:
    """'a pickle of sklearn.pipeline.Pipeline, written by scikit-learn 1.5.0'."""
    text = f"a pickle of {notes.names[0]}" if notes.names else "a model"
    if notes.xgboost:
        return f"{text}, written by XGBoost, {notes.xgboost}"
    return f"{text}, written by scikit-learn {notes.sklearn}" if notes.sklearn else text


def _skops_version(path: Path) -> str:
    """The version of scikit-learn in a .skops file; empty where it does not say."""
    try:
        with zipfile.ZipFile(path) as archive, archive.open("schema.json") as schema:
            found = _VERSION.search(schema.read(_LARGEST_SCHEMA).decode())
    except (OSError, ValueError, KeyError, zipfile.BadZipFile, EOFError, NotImplementedError):
        return ""
    return found[1] if found else ""
