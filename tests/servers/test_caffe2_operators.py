"""Each Caffe2 operator, with random arguments, beside numpy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="Caffe2 networks run on onnxruntime")
pytest.importorskip("onnx", reason="Caffe2 networks become ONNX graphs")

import caffe2_numpy
from caffe2_nets import operator, predict_net
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from net_layers import Array

from tensorwire import TensorSpec
from tensorwire.servers.engines.nets.caffe2.build import OPERATORS, build
from tensorwire.servers.engines.nets.caffe2.netdef import net_of
from tensorwire.servers.model import ModelError

PROPERTY = settings(max_examples=40, deadline=None)
ORDERS = st.sampled_from(["NCHW", "NHWC"])
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def compute(
    op: Any, data: dict[str, Array], weights: dict[str, Array] | None = None, *, free: bool = False
) -> dict[str, Array]:
    """The operator's outputs by ONNX Runtime; ``free``: sizes are only known when it runs, but for channels."""
    import onnxruntime as ort

    net = predict_net([op], [*data, *(weights or {})], op.output)
    last = any(argument.s == b"NHWC" for argument in op.arg)
    specs = []
    for name, x in data.items():
        shape = list(x.shape)
        if free:
            kept = x.ndim - 1 if last else 1
            shape = [size if axis == kept else -1 for axis, size in enumerate(shape)]
        specs.append(TensorSpec(name, x.dtype, shape))
    graph, _ = build(net_of(net), weights or {}, specs)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return dict(zip(op.output, session.run(list(op.output), data), strict=True))


def check(op: Any, *data: Array, weights: dict[str, Array] | None = None, free: bool = False) -> None:
    """What ONNX Runtime computes is what numpy computes, in shape, dtype and numbers."""
    given_names = [name for name in op.input if name not in (weights or {})]
    blobs = dict(zip(given_names, data, strict=True))
    expected = caffe2_numpy.run(predict_net([op]), blobs | (weights or {}))
    for name, y in compute(op, blobs, weights, free=free).items():
        assert y.shape == expected[name].shape
        np.testing.assert_allclose(y, expected[name], rtol=1e-4, atol=1e-4)


def ordered(x: Array, order: str) -> Array:
    """[N, C, H, W] in an order."""
    return np.ascontiguousarray(x.transpose(0, 2, 3, 1)) if order == "NHWC" else x


def window(draw: Any, name: str, values: tuple[int, int]) -> dict[str, Any]:
    """One of the ways in which Caffe2 writes a size of two dimensions."""
    style = draw(st.sampled_from(["list", "both", "sides"]))
    if style == "both" and values[0] == values[1]:
        return {name: values[0]}
    return {f"{name}s": list(values)} if style == "list" else {f"{name}_h": values[0], f"{name}_w": values[1]}


@PROPERTY
@given(st.data())
def test_conv(data: Any) -> None:
    draw = data.draw
    pair = st.tuples(st.integers(1, 3), st.integers(1, 3))
    group, inner, outer = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
    kernel, stride = draw(pair), draw(pair)
    dilation = draw(pair) if group == 1 else (1, 1)
    order = draw(ORDERS) if group == 1 else "NCHW"
    arguments: dict[str, Any] = {"group": group, "order": order}
    for name, values in (("kernel", kernel), ("stride", stride), ("dilation", dilation)):
        arguments |= window(draw, name, values)
    pads = draw(st.lists(st.integers(0, 3), min_size=4, max_size=4))
    arguments |= draw(
        st.sampled_from(
            [{}, {"pads": pads}, {"pad": pads[0]}, {f"pad_{side}": pad for side, pad in zip("tlbr", pads, strict=True)}]
        )
    )
    if "pads" not in arguments and "pad" not in arguments and dilation == (1, 1) and max(stride) <= min(kernel):
        arguments |= draw(st.sampled_from([{}, {"legacy_pad": 1}, {"legacy_pad": 2}]))
        if arguments.get("legacy_pad"):
            arguments = {name: value for name, value in arguments.items() if not name.startswith("pad_")}
    x = normal(2, group * inner, draw(st.integers(7, 10)), draw(st.integers(7, 10)))
    weights = {"w": ordered(normal(group * outer, inner, *kernel), order)}
    if draw(st.booleans()):
        weights["b"] = normal(group * outer)
    free = not arguments.get("legacy_pad") and draw(st.booleans())
    check(operator("Conv", ["x", *weights], ["y"], **arguments), ordered(x, order), weights=weights, free=free)


@PROPERTY
@given(st.data())
def test_pooling(data: Any) -> None:
    draw = data.draw
    kind, order, legacy = draw(st.sampled_from(["MaxPool", "AveragePool"])), draw(ORDERS), draw(st.integers(0, 3))
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    stride = draw(st.tuples(st.integers(1, kernel[0]), st.integers(1, kernel[1])))
    arguments: dict[str, Any] = {"order": order, "legacy_pad": legacy}
    arguments |= window(draw, "kernel", kernel) | window(draw, "stride", stride)
    if legacy in (0, 3):
        arguments["pads"] = [draw(st.integers(0, kernel[axis % 2] - 1)) for axis in range(4)]
    x = normal(2, 3, draw(st.integers(5, 12)), draw(st.integers(5, 12)))
    check(operator(kind, ["x"], ["y"], **arguments), ordered(x, order), free=draw(st.booleans()))


def test_caffes_pooling_without_knowing_the_images_size() -> None:
    """Caffe leaves out a last window that starts in the padding; ONNX Runtime must do the same on each image."""
    for kind in ("MaxPool", "AveragePool"):
        for size in range(3, 12):
            for kernel, stride, pad in ((2, 2, 1), (3, 2, 1), (3, 2, 0), (3, 3, 1), (3, 3, 2), (2, 2, 0)):
                op = operator(kind, ["x"], ["y"], kernel=kernel, stride=stride, pad=pad, legacy_pad=3)
                check(op, normal(1, 2, size, size), free=True)
                check(op, normal(1, 2, size, size))


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
@pytest.mark.parametrize("kind", ["MaxPool", "AveragePool"])
def test_global_pooling(kind: str, order: str) -> None:
    for more in ({}, {"kernel": 0, "pad": 0, "stride": 1, "legacy_pad": 3}):
        op = operator(kind, ["x"], ["y"], global_pooling=1, order=order, **more)
        check(op, ordered(normal(2, 3, 5, 7), order))


@PROPERTY
@given(
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    kernel=st.tuples(st.integers(2, 4), st.integers(2, 4)),
    pad=st.integers(0, 1),
    group=st.integers(1, 2),
    adj=st.integers(0, 1),
)
def test_conv_transpose(stride: Any, kernel: Any, pad: int, group: int, adj: int) -> None:
    torch = pytest.importorskip("torch", reason="compares with torch")
    assume(adj < min(stride))
    x, w, b = normal(2, 2 * group, 4, 5), normal(2 * group, 3, *kernel), normal(3 * group)
    op = operator(
        "ConvTranspose", ["x", "w", "b"], ["y"], kernels=kernel, strides=stride, pad=pad, group=group, adj=adj
    )
    y = compute(op, {"x": x}, {"w": w, "b": b})["y"]
    tensors = [torch.from_numpy(a) for a in (x, w, b)]
    expected = torch.nn.functional.conv_transpose2d(*tensors, stride, pad, adj, group)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("kind", "arguments"),
    [
        *((kind, {}) for kind in ("Relu", "Relu6", "Sigmoid", "Tanh", "LeakyRelu", "Elu", "Clip", "Copy")),
        *((kind, {}) for kind in ("StopGradient", "Dropout", "Scale", "Sum", "Normalize")),
        ("LeakyRelu", {"alpha": 0.3}),
        ("Elu", {"alpha": 0.7}),
        ("Clip", {"min": -0.5, "max": 0.25}),
        ("Clip", {"max": 1}),
        ("Scale", {"scale": -2.5}),
        ("Dropout", {"ratio": 0.3, "is_test": 1}),
        ("Normalize", {"axis": 1}),
        ("LRN", {"size": 3, "alpha": 0.5, "beta": 0.75}),
        ("LRN", {"size": 5, "alpha": 1.0, "beta": 0.5, "bias": 2.0, "order": "NHWC"}),
        ("ChannelShuffle", {"group": 3}),
        ("NHWC2NCHW", {}),
        ("NCHW2NHWC", {}),
        ("PadImage", {"pads": [1, 2, 3, 0]}),
        ("ResizeNearest", {"height_scale": 2.0, "width_scale": 3.0}),
        ("Transpose", {}),
        ("Transpose", {"axes": [0, 2, 3, 1]}),
        ("ExpandDims", {"dims": [0, 3]}),
    ],
)
@pytest.mark.parametrize("free", [False, True])
def test_operators_of_one_tensor(kind: str, arguments: Any, free: bool) -> None:
    check(operator(kind, ["x"], ["y"], **arguments), normal(2, 6, 4, 5) * 3, free=free and kind != "Transpose")


@pytest.mark.parametrize("order", ["NCHW", "NHWC"])
def test_weights_for_each_channel(order: str) -> None:
    x = ordered(normal(2, 3, 4, 5), order)
    for slope in (normal(3), normal(1)):
        check(operator("PRelu", ["x", "w"], ["y"], order=order), x, weights={"w": slope})
    parts = {"s": normal(3), "b": normal(3), "m": normal(3), "v": np.abs(normal(3))}
    check(operator("SpatialBN", ["x", *parts], ["y"], order=order, is_test=1), x, weights=parts)
    check(operator("SpatialBN", ["x", *parts], ["y"], order=order, epsilon=0.1), x, weights=parts)


@PROPERTY
@given(st.integers(0, 3), st.integers(1, 2), st.booleans())
def test_fc(axis: int, axis_w: int, free: bool) -> None:
    x = normal(2, 3, 4, 5)[: 1 if axis == 0 else 2]
    inner = int(np.prod(x.shape[axis:]))
    weights = {"w": normal(7, inner) if axis_w == 1 else normal(7, 1, inner), "b": normal(7)}
    assume(axis > 0)
    check(operator("FC", ["x", "w", "b"], ["y"], axis=axis, axis_w=axis_w), x, weights=weights, free=free)


def test_fc_with_transposed_weights() -> None:
    op = operator("FCTransposed", ["x", "w", "b"], ["y"])
    check(op, normal(2, 4), weights={"w": normal(4, 3), "b": normal(3)})


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 1, 1), (2, 3, 4), (2, 3, 1, 4)])
def test_softmax_is_over_all_that_follows_its_axis(shape: tuple[int, ...]) -> None:
    for axis in range(1, len(shape)):
        check(operator("Softmax", ["x"], ["y"], axis=axis), normal(*shape))
        check(operator("Softmax", ["x"], ["y"], axis=axis), normal(*shape), free=True)
    check(operator("Softmax", ["x"], ["y"]), normal(*shape))


@pytest.mark.parametrize("kind", ["Add", "Sub", "Mul", "Div"])
def test_arithmetic_spreads_its_second_operand(kind: str) -> None:
    x = normal(2, 3, 4, 5)
    cases: list[tuple[tuple[int, ...], dict[str, Any]]] = [
        ((2, 3, 4, 5), {}),
        ((5,), {"broadcast": 1}),
        ((4, 5), {"broadcast": 1}),
        ((3, 4), {"broadcast": 1, "axis": 1}),
        ((3,), {"broadcast": 1, "axis": 1}),
        ((3,), {"broadcast": 1, "axis_str": "C", "order": "NCHW"}),
        ((2,), {"broadcast": 1, "axis": 0}),
        ((), {"broadcast": 1}),
        ((1,), {"broadcast": 1}),
    ]
    for shape, arguments in cases:
        check(operator(kind, ["x", "w"], ["y"], **arguments), x, weights={"w": np.abs(normal(*shape)) + 1})
    check(operator(kind, ["x", "z"], ["y"]), x, np.abs(normal(2, 3, 4, 5)) + 1)


def test_sums_of_several() -> None:
    check(operator("Sum", ["a", "b", "c"], ["y"]), *(normal(2, 3) for _ in range(3)))


@pytest.mark.parametrize("free", [False, True])
def test_concat_and_split(free: bool) -> None:
    a, b = normal(2, 3, 4, 5), normal(2, 2, 4, 5)
    check(operator("Concat", ["a", "b"], ["y", "dims"]), a, b, free=free)
    check(operator("Concat", ["a", "b"], ["y", "dims"], order="NCHW"), a, b)
    last = [np.ascontiguousarray(x.transpose(0, 2, 3, 1)) for x in (a, b)]
    check(operator("Concat", ["a", "b"], ["y", "dims"], order="NHWC"), *last)
    check(operator("Concat", ["a", "b"], ["y", "dims"], axis=2), a, a)
    check(operator("Concat", ["a", "b"], ["y", "dims"], axis=1, add_axis=1), a, a, free=free)
    check(operator("Split", ["x"], ["y", "z"], axis=1, split=[1, 2]), a, free=free)
    lengths = {"lengths": np.array([2, 1])}
    check(operator("Split", ["x", "lengths"], ["y", "z"], axis=1), a, weights=lengths)
    found = compute(operator("Split", ["x"], ["y", "z"], axis=2), {"x": a})
    np.testing.assert_array_equal(np.concatenate([found["y"], found["z"]], 2), a)


def test_shapes() -> None:
    x = normal(2, 3, 4, 5)
    for shape in ([0, -1], [-1, 20], [0, 0, 20], [6, -1], [2, 60], [2, 3, 1, 20]):
        check(operator("Reshape", ["x"], ["y", "old"], shape=shape), x)
    check(operator("Reshape", ["x", "shape"], ["y", "old"]), x, weights={"shape": np.array([0, -1, 5])})
    for axis in range(4):
        check(operator("Flatten", ["x"], ["y"], axis=axis), x)
    check(operator("Squeeze", ["x"], ["y"], dims=[2, 3]), normal(2, 3, 1, 1))


PLAIN: dict[str, Any] = {
    "Abs": np.abs,
    "Exp": np.exp,
    "Log": np.log,
    "Negative": np.negative,
    "Sqrt": np.sqrt,
    "Softplus": lambda a: np.log1p(np.exp(a)),
    "Softsign": lambda a: a / (1 + np.abs(a)),
    "FlattenToVec": np.ravel,
    "Shape": np.shape,
    **dict.fromkeys(("Alias", "CopyCPUToGPU", "CopyGPUToCPU", "EnsureCPUOutput", "EnsureDense"), np.array),
    "ReduceMean": lambda a: a.mean(keepdims=True),
    "ReduceSum": lambda a: a.sum(keepdims=True),
    "ReduceMax": lambda a: a.max(keepdims=True),
    "ReduceMin": lambda a: a.min(keepdims=True),
    "ArgMax": lambda a: a.argmax(-1, keepdims=True),
}
OF_TWO: dict[str, Any] = {"Max": np.maximum, "Min": np.minimum, "Mean": lambda a, b: (a + b) / 2}


def test_operators_without_arguments() -> None:
    x = np.abs(normal(2, 4)) + 0.5
    for kind, function in PLAIN.items():
        y = compute(operator(kind, ["x"], ["y"]), {"x": x})["y"]
        np.testing.assert_allclose(y, function(x), rtol=1e-5)
    for kind, both in OF_TWO.items():
        y = compute(operator(kind, ["x", "z"], ["y"]), {"x": x, "z": x[::-1].copy()})["y"]
        np.testing.assert_allclose(y, both(x, x[::-1]))
    found = compute(operator("MatMul", ["x", "z"], ["y"], trans_b=1), {"x": x, "z": x})["y"]
    np.testing.assert_allclose(found, x @ x.T, rtol=1e-5)
    assert compute(operator("Cast", ["x"], ["y"], to=2), {"x": x})["y"].dtype == np.int32
    with_axes = compute(operator("ReduceMean", ["x"], ["y"], axes=[1], keepdims=0), {"x": x})["y"]
    np.testing.assert_allclose(with_axes, x.mean(1), rtol=1e-5)


def test_there_is_no_operator_without_a_reference() -> None:
    tested = {*caffe2_numpy.OPERATORS, *PLAIN, *OF_TWO, "ConvTranspose", "MatMul", "Cast", "DepthConcat", "DepthSplit"}
    assert {name for name in OPERATORS if name[-2:] not in ("1D", "2D", "3D")} == tested


@pytest.mark.parametrize("rank", [1, 3])
def test_windows_of_one_and_three_dimensions(rank: int) -> None:
    torch = pytest.importorskip("torch", reason="compares with torch")
    x, w, b = normal(2, 3, *[6] * rank), normal(4, 3, *[3] * rank), normal(4)
    convolve = torch.nn.functional.conv1d if rank == 1 else torch.nn.functional.conv3d
    pool = torch.nn.functional.max_pool1d if rank == 1 else torch.nn.functional.max_pool3d
    arguments = {"kernels": [3] * rank, "strides": [2] * rank, "pads": [1] * 2 * rank}
    y = compute(operator(f"Conv{rank}D", ["x", "w", "b"], ["y"], **arguments), {"x": x}, {"w": w, "b": b})["y"]
    expected = convolve(*(torch.from_numpy(a) for a in (x, w, b)), stride=2, padding=1)
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-4, atol=1e-4)
    y = compute(operator(f"MaxPool{rank}D", ["x"], ["y"], **arguments), {"x": x})["y"]
    np.testing.assert_array_equal(y, pool(torch.from_numpy(x), 3, 2, 1).numpy())


@pytest.mark.parametrize(
    ("op", "message"),
    [
        (operator("Conv", ["x", "w"], ["y"], kernel=3, order="HWNC"), "order HWNC is neither NCHW nor NHWC"),
        (
            operator("Conv", ["x", "w"], ["y"], kernel=2),
            r"weight 'w' has the shape \[4, 3, 3, 3\], expected \[\?, 3, 2",
        ),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, group=2), "group 2 does not divide 3 channels"),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, stride=0), r"strides \[0, 0\]: a number from 1"),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, pad=-1), r"pads \[-1, -1\]: a number from 0"),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, pad=2**40), "pads .*: a number from 0 to"),
        (operator("Conv", ["x", "w"], ["y"], kernel="3"), "argument kernel is a whole number, the file has s"),
        (operator("Conv", ["x"], ["y"], kernel=3), "takes 2 to 3 inputs, 1 are named"),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, legacy_pad=7), "legacy_pad 7 is not one of 0 to 3"),
        (operator("Conv", ["x", "w"], ["y"], kernel=3, legacy_pad=2, pad=1), "beside legacy_pad 2"),
        (operator("MaxPool", ["x"], ["y"], kernel=9), "kernel .* is larger than the image, 8 pixels padded to 8"),
        (operator("MaxPool", ["x"], ["y"], kernel=2, pad=2), "pads .* are not smaller than the kernel"),
        (operator("MaxPool", ["x"], ["y"], kernel=2, dilation=2), "pooling with dilation is not supported"),
        (operator("Concat", ["x", "w"], ["y"]), "does not fit its inputs"),
        (operator("Reshape", ["x"], ["y"]), "argument shape is missing"),
        (operator("Add", ["x", "w"], ["y"], broadcast=1, axis=3), "axis 3 does not fit the shapes"),
        (operator("Softmax", ["x"], ["y"], axis=9), r"axis 9 is not one of a tensor \[\?, 3, 8, 8\]"),
        (operator("FC", ["x", "w", "b"], ["y"]), r"weight 'w' has the shape \[4, 27\], expected \[\?, 192\]"),
        (operator("LRN", ["x"], ["y"], size=4), "size 4 is not an odd number"),
        (operator("ExpandDims", ["x"], ["y"], dims=[0, 99]), "does not fit its inputs"),
        (operator("Transpose", ["x"], ["y"], axes=[0, 0, 1, 2]), "are not a permutation"),
        (operator("ChannelShuffle", ["x"], ["y"], group=2), "group 2 does not divide the channels"),
        (operator("ResizeNearest", ["x"], ["y"], width_scale=1e9), "scales .* are not supported"),
        (operator("PadImage", ["x"], ["y"], pads=[2**40] * 4), "pads .* is not supported"),
        (operator("Cast", ["x"], ["y"], to=4), "type 4 is not one of numbers"),
    ],
)
def test_what_cannot_be_says_why(op: Any, message: str) -> None:
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4)}
    with pytest.raises(ModelError, match=message) as caught:
        compute(op, {"x": normal(2, 3, 8, 8)}, {name: weights[name] for name in op.input if name != "x"})
    assert str(caught.value).startswith(f"{op.type} 'y' (operator 0): ")
    assert "\n" not in str(caught.value)
