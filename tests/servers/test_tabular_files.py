"""Models that others made, in files of years ago: each is served, or says who wrote it and what to do."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

pytest.importorskip("sklearn", reason="the files are scikit-learn's and XGBoost's")
pytest.importorskip("xgboost", reason="some of the files are XGBoost's")

from tensorwire.servers.engines import registry
from tensorwire.servers.model import ModelError

DATA = os.environ.get("TENSORWIRE_TEST_DATA")
pytestmark = pytest.mark.skipif(DATA is None, reason="TENSORWIRE_TEST_DATA is not set")
FOLDER = Path(DATA or "") / "simple_tensorflow_serving"

SKLEARN = (
    r"written by scikit-learn 0\.19\.1, which [\d.]+ does not read: ModuleNotFoundError: No module named "
    r"'sklearn\.\w+\.\w+'\. Install scikit-learn==0\.19\.1, or make the model anew with [\d.]+$"
)
XGBOOST = (
    r"XGBoost's old binary format, written by a version before 1\.0, which XGBoost [\d.]+ does not read\. "
    "Load it with an older one "
)
REASONS = {
    "scikitlearn_iris/model.joblib": SKLEARN,
    "scikitlearn_iris/model.pkl": SKLEARN,
    "xgboost_iris/model.bst": "^[^ ]*: " + XGBOOST,
    "xgboost_iris/model.joblib": r"a pickle of xgboost\.core\.Booster, in " + XGBOOST,
    "xgboost_iris/model.pkl": r"a pickle of xgboost\.core\.Booster, in " + XGBOOST,
}


@pytest.mark.parametrize("name", sorted(REASONS))
def test_a_file_that_is_no_longer_read_says_who_wrote_it(name: str) -> None:
    path = FOLDER / name
    options = {} if path.suffix == ".bst" else {"allow_pickle": True}
    with pytest.raises(ModelError, match=REASONS[name]) as caught:
        registry.load_model(path, options=options)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)
    if options:
        with pytest.raises(ModelError, match="reading it runs any code that its maker put in") as caught:
            registry.load_model(path)
        assert re.search(
            r"a pickle of (sklearn\.pipeline\.Pipeline, written by|xgboost\.core\.Booster)", str(caught.value)
        )


def test_every_file_is_among_them() -> None:
    found = {
        str(path.relative_to(FOLDER))
        for name in ("scikitlearn_iris", "xgboost_iris")
        for path in (FOLDER / name).iterdir()
    }
    assert found == set(REASONS)
