"""Train the embedded default model, a classifier of handwritten digits, and export it as ONNX.

Data: "Optical Recognition of Handwritten Digits" (E. Alpaydin and C. Kaynak, UCI Machine Learning Repository,
1998, https://doi.org/10.24432/C50P49, CC BY 4.0), in the copy that scikit-learn ships: 1797 images of 8x8
pixels. A pixel is the number of ink dots, 0 to 16, in a 4x4 block of the scanned bitmap.

Model: a perceptron 64-256-64-10 with ReLU, trained on the images and their shifts by one pixel. Layer sizes
and epochs were chosen by 5-fold cross-validation inside the training part (mean accuracy 0.985); the held-out
part only measures the result. Writers are not identified, so one writer's digits may lie in both parts.

Everything is seeded and linear algebra runs on one thread: on one machine, with the same library versions,
two runs write the same bytes.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import onnxruntime as ort  # type: ignore[import-untyped]
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_digits  # type: ignore[import-untyped]
from sklearn.exceptions import ConvergenceWarning  # type: ignore[import-untyped]
from sklearn.model_selection import train_test_split  # type: ignore[import-untyped]
from sklearn.neural_network import MLPClassifier  # type: ignore[import-untyped]
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

EMBEDDED = Path(__file__).resolve().parent.parent / "servers" / "embedded"

SEED = 0
HELDOUT_SHARE = 0.2
HIDDEN = (256, 64)
EPOCHS = 60
PIXEL_MAX = 16.0
REQUIRED_ACCURACY = 0.97

OPSET = 17
IR_VERSION = 8  # the one that goes with opset 17; ONNX Runtime 1.19 reads up to 10


class Split(NamedTuple):
    """Images uint8 [n, 8, 8] with values 0..16, labels uint8 [n] with values 0..9."""

    train_images: NDArray[np.uint8]
    train_labels: NDArray[np.uint8]
    heldout_images: NDArray[np.uint8]
    heldout_labels: NDArray[np.uint8]


def load_split() -> Split:
    """Return the data set split in two, every digit with the same share in both parts."""
    digits = load_digits()
    images, labels = digits.images.astype(np.uint8), digits.target.astype(np.uint8)
    train_images, heldout_images, train_labels, heldout_labels = train_test_split(
        images, labels, test_size=HELDOUT_SHARE, stratify=labels, random_state=SEED
    )
    return Split(train_images, train_labels, heldout_images, heldout_labels)


def with_shifts(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return [5 n, 8, 8]: the images, then copies moved one pixel down, up, right and left."""
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1)))
    moves = ((0, 0), (1, 0), (-1, 0), (0, 1), (0, -1))
    return np.concatenate([padded[:, 1 - dy : 9 - dy, 1 - dx : 9 - dx] for dy, dx in moves])


def train(images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> Any:
    """Return an MLPClassifier fitted on float32 pixels scaled to 0..1."""
    augmented = with_shifts(images)
    pixels = augmented.reshape(len(augmented), -1).astype(np.float32) / np.float32(PIXEL_MAX)
    classifier = MLPClassifier(
        HIDDEN,
        alpha=1e-3,
        batch_size=128,
        learning_rate_init=2e-3,
        max_iter=EPOCHS,
        n_iter_no_change=EPOCHS,
        random_state=SEED,
    )
    with warnings.catch_warnings(), threadpool_limits(limits=1):
        # The number of epochs is fixed on purpose; scikit-learn warns of every fit that ends that way.
        warnings.simplefilter("ignore", ConvergenceWarning)
        classifier.fit(pixels, np.tile(labels, len(augmented) // len(images)))
    return classifier


def to_onnx(classifier: Any) -> onnx.ModelProto:
    """Return the classifier as a graph from raw pixels to probabilities and label."""
    constants = {"pixel_max": np.array(PIXEL_MAX, np.float32)}
    nodes = [
        helper.make_node("Div", ["image", "pixel_max"], ["scaled"], name="scale"),
        helper.make_node("Flatten", ["scaled"], ["layer0"], name="flatten", axis=1),
    ]
    last = len(classifier.coefs_)
    for i, (weight, bias) in enumerate(zip(classifier.coefs_, classifier.intercepts_, strict=True), start=1):
        constants |= {f"weight{i}": weight.astype(np.float32), f"bias{i}": bias.astype(np.float32)}
        output = "logits" if i == last else f"linear{i}"
        nodes.append(
            helper.make_node("Gemm", [f"layer{i - 1}", f"weight{i}", f"bias{i}"], [output], name=f"gemm{i}")
        )
        if i < last:
            nodes.append(helper.make_node("Relu", [output], [f"layer{i}"], name=f"relu{i}"))
    nodes += [
        helper.make_node("Softmax", ["logits"], ["probabilities"], name="softmax", axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], name="argmax", axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "digits",
        inputs=[helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 8, 8])],
        outputs=[
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", 10]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["batch"]),
        ],
        initializer=[numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="tensorwire",
        model_version=1,
    )


def describe(split: Split, accuracy: float) -> str:
    """Return the text stored in the model's doc_string."""
    return (
        "Handwritten digits 0-9. Input image: float32 [batch, 8, 8], pixels 0 (paper) to 16 (ink), scaled "
        "inside the graph. Outputs: probabilities float32 [batch, 10], label int64 [batch]. "
        "Data: Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI Machine Learning "
        "Repository, https://doi.org/10.24432/C50P49, CC BY 4.0, as shipped by scikit-learn. "
        f"Trained on {len(split.train_labels)} images and their one-pixel shifts; "
        f"accuracy {accuracy:.4f} on {len(split.heldout_labels)} held-out images."
    )


def measure(model: bytes, images: NDArray[np.uint8], labels: NDArray[np.uint8]) -> float:
    """Return the share of images that ONNX Runtime labels correctly."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    (predicted,) = session.run(["label"], {"image": images.astype(np.float32)})
    return float(np.mean(np.asarray(predicted) == labels))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; return 1, with nothing written, when the model is not accurate enough."""
    parser = argparse.ArgumentParser(
        description="Train the embedded digits classifier and export it as ONNX, with its held-out images.",
        epilog="example: python tools/train_digits.py --onnx digits.onnx --heldout heldout.npz",
    )
    parser.add_argument(
        "--onnx", type=Path, default=EMBEDDED / "digits.onnx", help="model to write (default: %(default)s)"
    )
    parser.add_argument(
        "--heldout",
        type=Path,
        default=EMBEDDED / "digits_heldout.npz",
        help="held-out images and labels to write (default: %(default)s)",
    )
    options = parser.parse_args(arguments)

    split = load_split()
    model = to_onnx(train(split.train_images, split.train_labels))
    accuracy = measure(model.SerializeToString(), split.heldout_images, split.heldout_labels)
    print(f"held-out accuracy {accuracy:.4f} on {len(split.heldout_labels)} images")
    if accuracy < REQUIRED_ACCURACY:
        print(f"error: accuracy is under {REQUIRED_ACCURACY}; nothing written", file=sys.stderr)
        return 1

    model.doc_string = describe(split, accuracy)
    onnx.checker.check_model(model, full_check=True)
    options.onnx.write_bytes(model.SerializeToString())
    with options.heldout.open("wb") as file:  # a path would get ".npz" appended when it lacks it
        np.savez_compressed(file, images=split.heldout_images, labels=split.heldout_labels)

    written = measure(options.onnx.read_bytes(), split.heldout_images, split.heldout_labels)
    if written != accuracy:
        print(f"error: {options.onnx} has accuracy {written:.4f}, expected {accuracy:.4f}", file=sys.stderr)
        return 1
    print(f"wrote {options.onnx} ({options.onnx.stat().st_size} bytes) and {options.heldout}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
