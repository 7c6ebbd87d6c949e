"""The embedded digits model: signature, size, accuracy on real images, and that it can be made again."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from tensorwire.servers import embedded

ort: Any = pytest.importorskip("onnxruntime", reason="the embedded model runs on onnxruntime")

TRAIN_SCRIPT = Path(__file__).resolve().parents[2] / "tools" / "train_digits.py"


def open_model(path: Path) -> Any:
    return ort.InferenceSession(path, providers=["CPUExecutionProvider"])


def predict(path: Path, images: NDArray[np.float32]) -> NDArray[np.int64]:
    (labels,) = open_model(path).run(["label"], {"image": images})
    return np.asarray(labels, np.int64)


def test_heldout_images_and_labels() -> None:
    images, labels = embedded.heldout()
    assert images.dtype == np.float32 and images.shape == (len(labels), 8, 8)
    assert labels.dtype == np.int64 and len(labels) >= 300
    assert images.min() == 0 and images.max() == 16
    assert set(labels.tolist()) == set(range(10))


def test_heldout_returns_fresh_copies() -> None:
    first, _ = embedded.heldout()
    first[:] = 0
    second, _ = embedded.heldout()
    assert second.max() == 16


def test_file_is_small() -> None:
    assert embedded.DIGITS.stat().st_size < 300_000


def test_signature() -> None:
    model = open_model(embedded.DIGITS)
    assert [(x.name, x.type, x.shape) for x in model.get_inputs()] == [
        ("image", "tensor(float)", ["batch", 8, 8])
    ]
    assert [(y.name, y.type, y.shape) for y in model.get_outputs()] == [
        ("probabilities", "tensor(float)", ["batch", 10]),
        ("label", "tensor(int64)", ["batch"]),
    ]


def test_metadata_names_producer_version_and_source() -> None:
    meta = open_model(embedded.DIGITS).get_modelmeta()
    assert (meta.producer_name, meta.version) == ("tensorwire", 1)
    assert "CC BY 4.0" in meta.description and "0 (paper) to 16 (ink)" in meta.description


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_outputs_agree_with_each_other(batch: int) -> None:
    images, _ = embedded.heldout()
    probabilities, label = open_model(embedded.DIGITS).run(
        ["probabilities", "label"], {"image": images[:batch]}
    )
    assert probabilities.dtype == np.float32 and probabilities.shape == (batch, 10)
    assert label.dtype == np.int64 and label.shape == (batch,)
    assert np.allclose(probabilities.sum(axis=1), 1, atol=1e-5)
    assert np.array_equal(probabilities.argmax(axis=1), label)


def test_accuracy_on_heldout_images() -> None:
    images, labels = embedded.heldout()
    assert np.mean(predict(embedded.DIGITS, images) == labels) >= 0.97


def test_training_again_gives_an_equivalent_model(tmp_path: Path) -> None:
    for module, reason in {
        "sklearn": "training needs scikit-learn",
        "onnx": "the export needs onnx",
    }.items():
        pytest.importorskip(module, reason=reason)
    model, heldout = tmp_path / "digits.onnx", tmp_path / "heldout.npz"
    command = [sys.executable, str(TRAIN_SCRIPT), "--onnx", str(model), "--heldout", str(heldout)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    assert "held-out accuracy" in done.stdout

    images, labels = embedded.heldout()
    with np.load(heldout, allow_pickle=False) as again:
        assert again["images"].dtype == np.uint8 and np.array_equal(again["images"], images)
        assert again["labels"].dtype == np.uint8 and np.array_equal(again["labels"], labels)
    predicted = predict(model, images)
    assert np.mean(predicted == labels) >= 0.97
    assert np.mean(predicted == predict(embedded.DIGITS, images)) >= 0.97
