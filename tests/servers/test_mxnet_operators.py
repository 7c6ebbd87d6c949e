"""Each MXNet operator, with random attributes, beside numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime", reason="MXNet networks run on onnxruntime")
pytest.importorskip("onnx", reason="MXNet networks become ONNX graphs")

import mxnet_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from mxnet_nets import Net
from net_layers import Array

from tensorwire import TensorSpec
from tensorwire.servers.engines.nets.mxnet.build import OPERATORS, build
from tensorwire.servers.engines.nets.mxnet.symbol import symbol_of
from tensorwire.servers.model import ModelError

PROPERTY = settings(max_examples=40, deadline=None)
PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))
RANDOM = np.random.default_rng(0)


def normal(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


def run(
    op: str,
    inputs: dict[str, Array],
    weights: dict[str, Array],
    attributes: Any,
    heads: Sequence[str] = ("y",),
    free: bool = False,
) -> tuple[list[Array], dict[str, Any]]:
    """The node's outputs by ONNX Runtime, and the symbol; ``free``: only channels are known before it runs."""
    import onnxruntime as ort

    net = Net()
    net.nodes.clear()
    for name in (*inputs, *weights):
        net.variable(name)
    net.add(op, [*inputs, *weights], "y", **attributes)
    specs = [
        TensorSpec(name, x.dtype, [n if axis == 1 or not free else -1 for axis, n in enumerate(x.shape)])
        for name, x in inputs.items()
    ]
    symbol = net.symbol(heads)
    graph, _ = build(symbol_of(symbol), weights, specs)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    session = ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs), symbol


def compute(op: str, inputs: dict[str, Array], attributes: Any) -> Array:
    """The node's first output."""
    (y,), _ = run(op, inputs, {}, attributes)
    return y


def check(op: str, *xs: Array, weights: dict[str, Array] | None = None, free: bool = False, **attributes: Any) -> None:
    """What ONNX Runtime computes is what numpy computes, in shape and numbers."""
    inputs = {f"x{at}": x for at, x in enumerate(xs)}
    (y,), symbol = run(op, inputs, weights or {}, attributes, free=free)
    expected = mxnet_numpy.run(symbol, inputs | (weights or {}))["y"]
    assert y.shape == expected.shape
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)


@PROPERTY
@given(st.data())
def test_convolution(data: Any) -> None:
    draw = data.draw
    group, inner, outer, kernel = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(PAIR)
    attributes: dict[str, Any] = {"kernel": kernel, "num_filter": group * outer, "num_group": group}
    for name, values in (("stride", PAIR), ("dilate", PAIR), ("pad", st.tuples(st.integers(0, 2), st.integers(0, 2)))):
        if draw(st.booleans()):
            attributes[name] = draw(values)
    weights = {"w": normal(group * outer, inner, *kernel), "b": normal(group * outer)}
    if draw(st.booleans()):
        attributes["no_bias"] = True
        del weights["b"]
    x = normal(2, group * inner, draw(st.integers(7, 10)), draw(st.integers(7, 10)))
    check("Convolution", x, weights=weights, free=draw(st.booleans()), **attributes)


@PROPERTY
@given(st.data())
def test_pooling(data: Any) -> None:
    draw = data.draw
    kernel = draw(st.tuples(st.integers(1, 4), st.integers(1, 4)))
    attributes: dict[str, Any] = {
        "kernel": kernel,
        "stride": draw(st.tuples(st.integers(1, kernel[0]), st.integers(1, kernel[1]))),
        "pad": tuple(draw(st.integers(0, size - 1)) for size in kernel),
        "pool_type": draw(st.sampled_from(["max", "avg", "sum"])),
        "pooling_convention": draw(st.sampled_from(["valid", "full"])),
    }
    if attributes["pool_type"] == "avg":
        attributes["count_include_pad"] = draw(st.booleans())
    x = normal(2, 3, draw(st.integers(5, 12)), draw(st.integers(5, 12)))
    if attributes["pooling_convention"] == "full" and not attributes.get("count_include_pad"):
        # A window of nothing but padding has no largest value and no mean.
        for axis in (0, 1):
            extent = x.shape[2 + axis] + 2 * attributes["pad"][axis] - kernel[axis]
            starts = -(-extent // attributes["stride"][axis]) * attributes["stride"][axis]
            if starts >= x.shape[2 + axis] + attributes["pad"][axis]:
                attributes["pad"] = (0, 0)
    # Without the image's size, only what does not depend on it can be converted.
    plain = attributes["pooling_convention"] == "valid" or attributes["pad"] == (0, 0)
    free = attributes["pool_type"] != "sum" and plain and draw(st.booleans())
    check("Pooling", x, free=free, **attributes)


def test_pooling_that_depends_on_the_images_size_asks_for_it() -> None:
    attributes = {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full"}
    for kind in ("max", "avg", "sum"):
        with pytest.raises(ModelError, match="declare the network's inputs with their shapes"):
            check("Pooling", normal(1, 2, 5, 5), free=True, pool_type=kind, **attributes)
        check("Pooling", normal(1, 2, 4, 4), free=False, pool_type=kind, **attributes)
    with pytest.raises(ModelError, match="would have nothing but padding"):
        compute("Pooling", {"x": normal(1, 2, 5, 5)}, attributes | {"pool_type": "avg", "count_include_pad": False})
    attributes |= {"kernel": (3, 3)}
    for size in range(3, 12):
        check("Pooling", normal(1, 2, size, size), free=True, pool_type="max", **attributes)


def test_a_window_of_nothing_but_padding_gives_the_least_number() -> None:
    attributes = {"kernel": (2, 2), "stride": (2, 2), "pad": (1, 1), "pooling_convention": "full"}
    x = normal(1, 1, 3, 3)
    y = compute("Pooling", {"x": x}, attributes)
    assert y.shape == (1, 1, 3, 3)
    assert y[0, 0, 0, 0] == x[0, 0, 0, 0]
    assert (y[0, 0, 2] == np.finfo(np.float32).min).all()


@pytest.mark.parametrize("kind", ["max", "avg", "sum"])
def test_global_pooling(kind: str) -> None:
    check("Pooling", normal(2, 3, 5, 4), pool_type=kind, global_pool=True, kernel=(7, 7), stride=(2, 2), pad=(1, 1))


@pytest.mark.parametrize("flatten", [True, False])
@pytest.mark.parametrize("bias", [True, False])
def test_fully_connected(flatten: bool, bias: bool) -> None:
    weights = {"w": normal(3, 60 if flatten else 5)} | ({"b": normal(3)} if bias else {})
    attributes = {"num_hidden": 3, "flatten": flatten, "no_bias": not bias}
    check("FullyConnected", normal(2, 3, 4, 5), weights=weights, **attributes)
    if flatten:
        del attributes["flatten"]
        check("FullyConnected", normal(2, 60), weights=weights, free=True, **attributes)


@PROPERTY
@given(st.tuples(st.integers(1, 2), st.integers(2, 3)), st.integers(0, 1), st.integers(1, 2), st.booleans())
def test_deconvolution(sizes: Any, adj: int, group: int, bias: bool) -> None:
    torch = pytest.importorskip("torch", reason="compares with torch")
    pad, stride = sizes
    x, w, b = normal(2, 2 * group, 4, 5), normal(2 * group, 3, 3, 3), normal(3 * group)
    attributes = {
        "kernel": (3, 3),
        "stride": (stride, stride),
        "pad": (pad, pad),
        "adj": (adj, adj),
        "num_filter": 3 * group,
        "num_group": group,
        "no_bias": not bias,
    }
    (y,), _ = run("Deconvolution", {"x": x}, {"w": w} | ({"b": b} if bias else {}), attributes)
    tensors = [torch.from_numpy(a) for a in ((x, w, b) if bias else (x, w))]
    expected = torch.nn.functional.conv_transpose2d(
        *tensors, stride=stride, padding=pad, output_padding=adj, groups=group
    )
    np.testing.assert_allclose(y, expected.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("attributes", [{}, {"fix_gamma": False}, {"fix_gamma": False, "eps": 0.1}, {"axis": 3}])
def test_batch_norm_fixes_its_gamma_unless_told_otherwise(attributes: Any) -> None:
    n = 5 if attributes.get("axis") else 3
    weights = {"gamma": normal(n), "beta": normal(n), "mean": normal(n), "var": np.abs(normal(n))}
    check("BatchNorm", normal(2, 3, 4, 5), weights=weights, **attributes)


X4 = (2, 3, 4, 5)
CASES: list[tuple[str, Any, tuple[int, ...]]] = [
    *(("Activation", {"act_type": kind}, X4) for kind in ("relu", "sigmoid", "tanh", "softrelu", "softsign")),
    ("LeakyReLU", {}, X4),
    ("LeakyReLU", {"act_type": "leaky", "slope": 0.1}, X4),
    ("LeakyReLU", {"act_type": "elu", "slope": 0.7}, X4),
    ("LRN", {"nsize": 3, "alpha": 0.5, "beta": 0.5, "knorm": 1}, X4),
    ("LRN", {"nsize": 5}, X4),
    *(("L2Normalization", {"mode": mode, "eps": 0.1}, X4) for mode in ("instance", "channel", "spatial")),
    *(("SoftmaxActivation", {"mode": mode}, X4) for mode in ("instance", "channel")),
    ("softmax", {}, X4),
    ("softmax", {"axis": 1, "temperature": 2.5}, X4),
    ("log_softmax", {"axis": 1}, X4),
    ("Dropout", {"p": 0.5}, X4),
    ("BlockGrad", {}, X4),
    ("Flatten", {}, X4),
    ("clip", {"a_min": -0.5, "a_max": 0.25}, X4),
    ("square", {}, X4),
    ("transpose", {}, X4),
    ("transpose", {"axes": (0, 2, 3, 1)}, X4),
    ("SwapAxis", {"dim1": 1, "dim2": 3}, X4),
    ("expand_dims", {"axis": 2}, X4),
    ("squeeze", {"axis": 2}, (2, 3, 1, 5)),
    ("slice_axis", {"axis": 1, "begin": 1, "end": None}, X4),
    ("slice_axis", {"axis": 3, "begin": 1, "end": -1}, X4),
    *(("mean", attributes, X4) for attributes in ({}, {"axis": (2, 3)}, {"axis": 1, "keepdims": True})),
    ("sum", {"axis": (0, 1), "exclude": True}, X4),
    ("sum", {"keepdims": True}, X4),
    ("max", {"axis": (1,)}, X4),
    *((f"_{name}_scalar", {"scalar": 2.5}, X4) for name in ("plus", "minus", "rminus", "mul", "div", "rdiv")),
    ("LinearRegressionOutput", {}, X4),
    ("LogisticRegressionOutput", {}, X4),
    ("SoftmaxOutput", {}, X4),
    ("SoftmaxOutput", {"multi_output": True}, X4),
    ("SoftmaxOutput", {"preserve_shape": True}, X4),
]


@pytest.mark.parametrize(("op", "attributes", "shape"), CASES, ids=lambda value: str(value))
def test_operators_of_one_tensor(op: str, attributes: Any, shape: tuple[int, ...]) -> None:
    check(op, normal(*shape) + (3 if op == "_rdiv_scalar" else 0), **attributes)


@pytest.mark.parametrize("op", ["elemwise_add", "_Plus", "broadcast_add", "broadcast_sub", "broadcast_mul", "add_n"])
def test_operators_of_two_tensors(op: str) -> None:
    check(op, normal(*X4), normal(*X4))
    if op.startswith("broadcast"):
        check(op, normal(*X4), normal(1, 3, 1, 1))
        check("broadcast_div", normal(*X4), np.abs(normal(2, 1, 4, 1)) + 1)


def test_tensors_that_are_joined_and_split() -> None:
    check("Concat", normal(2, 3, 4), normal(2, 1, 4), num_args=2)
    check("Concat", normal(2, 3, 4), normal(2, 3, 1), dim=2)
    check("stack", normal(2, 3), normal(2, 3), axis=1)
    check("LeakyReLU", normal(*X4), weights={"gamma": normal(3)}, act_type="prelu")
    for attributes in ({"num_outputs": 3}, {"num_outputs": 5, "axis": 3, "squeeze_axis": True}):
        heads = [f"y:{which}" if which else "y" for which in range(attributes["num_outputs"])]
        inputs = {"x": normal(*X4)}
        found, symbol = run("SliceChannel", inputs, {}, attributes, heads)
        expected = mxnet_numpy.run(symbol, inputs)
        for y, name in zip(found, heads, strict=True):
            np.testing.assert_array_equal(y, expected[name])


@pytest.mark.parametrize(
    ("codes", "reverse", "expected"),
    [
        ((0, -1), False, (2, 60)),
        ((-1, 20), False, (6, 20)),
        ((0, 0, -1), False, (2, 3, 20)),
        ((-2,), False, (2, 3, 4, 5)),
        ((0, -3, 0), False, (2, 12, 5)),
        ((0, -3, -2), False, (2, 12, 5)),
        ((-3, -3), False, (6, 20)),
        ((0, 0, -4, 2, -1, 0), False, (2, 3, 2, 2, 5)),
        ((0, 0, -4, -1, 4, -2), False, (2, 3, 1, 4, 5)),
        ((0, 60), False, (2, 60)),
        ((-1, 0), True, (24, 5)),
        ((-1, 4, 0), True, (6, 4, 5)),
    ],
)
def test_reshape_knows_all_of_its_codes(codes: Any, reverse: bool, expected: Any) -> None:
    x = normal(2, 3, 4, 5)
    attributes = {"shape": codes, "reverse": reverse}
    y = compute("Reshape", {"x": x}, attributes)
    np.testing.assert_array_equal(y, x.reshape(expected))


def test_the_old_kind_of_reshape() -> None:
    x = normal(2, 3, 4)
    y = compute("Reshape", {"x": x}, {"target_shape": (2, 0)})
    np.testing.assert_array_equal(y, x.reshape(2, 12))
    y = compute("Reshape", {"x": x}, {"target_shape": (9, 0), "keep_highest": True})
    np.testing.assert_array_equal(y, x.reshape(2, 12))


PLAIN: dict[str, Any] = {
    "relu": lambda a: np.maximum(a, 0),
    "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "tanh": np.tanh,
    "softsign": lambda a: a / (1 + np.abs(a)),
    "exp": np.exp,
    "log": np.log,
    "sqrt": np.sqrt,
    "abs": np.abs,
    "negative": np.negative,
    "floor": np.floor,
    "ceil": np.ceil,
    "min": lambda a: a.min().reshape(1),
}


def test_operators_without_attributes() -> None:
    x = np.abs(normal(3, 4)) + 0.5
    for op, function in PLAIN.items():
        y = compute(op, {"x": x}, {})
        np.testing.assert_allclose(y, function(x), rtol=1e-5)
    y = compute("Cast", {"x": x}, {"dtype": "int32"})
    assert y.dtype == np.int32
    y = compute("argmax", {"x": x}, {"axis": 1})
    np.testing.assert_array_equal(y, x.argmax(1).astype(np.float32))
    y = compute("dot", {"x": x, "z": x}, {"transpose_b": True})
    np.testing.assert_allclose(y, x @ x.T, rtol=1e-5)
    y = compute("UpSampling", {"x": x[None, None]}, {"scale": 2, "sample_type": "nearest"})
    np.testing.assert_array_equal(y[0, 0], x.repeat(2, 0).repeat(2, 1))
    pads = {"mode": "constant", "pad_width": (0, 0, 0, 0, 1, 2, 3, 0), "constant_value": 7}
    y = compute("Pad", {"x": x[None, None]}, pads)
    np.testing.assert_array_equal(y[0, 0], np.pad(x, ((1, 2), (3, 0)), constant_values=7))
    for op, both in (("_power", np.power), ("_maximum", np.maximum), ("_minimum", np.minimum)):
        y = compute(op, {"x": x, "z": x[::-1].copy()}, {})
        np.testing.assert_allclose(y, both(x, x[::-1]), rtol=1e-4)
        y = compute(f"{op}_scalar", {"x": x}, {"scalar": 1.5})
        np.testing.assert_allclose(y, both(x, np.float32(1.5)), rtol=1e-4)
    y = compute("_rpower_scalar", {"x": x}, {"scalar": 1.5})
    np.testing.assert_allclose(y, 1.5**x, rtol=1e-4)


def test_there_is_no_operator_without_a_reference() -> None:
    """The names of one operator share its conversion."""
    own = {"Deconvolution", "Cast", "argmax", "dot", "UpSampling", "Pad", "_power", "_maximum", "_minimum"}
    own |= {"_power_scalar", "_maximum_scalar", "_minimum_scalar", "_rpower_scalar"}
    tested = [OPERATORS[name] for name in {*mxnet_numpy.OPERATORS, *PLAIN, *own}]
    assert [name for name, convert in OPERATORS.items() if convert not in tested] == []


@pytest.mark.parametrize(
    ("op", "attributes", "message"),
    [
        ("Convolution", {"kernel": (3, 3), "layout": "NHWC"}, "layout NHWC is not supported"),
        ("Convolution", {"kernel": (2, 2)}, r"weight 'w' has the shape \[4, 3, 3, 3\], expected \[\?, \?, 2, 2\]"),
        ("Convolution", {"kernel": (3, 3), "num_filter": 9}, r"has the shape .*, expected \[9, \?, 3, 3\]"),
        ("Convolution", {"kernel": (3, 3), "num_group": 2}, "group 2 does not divide 3 channels"),
        ("Convolution", {"kernel": (3, 3), "stride": (0, 1)}, r"strides \[0, 1\]: a number from 1"),
        ("Convolution", {"kernel": (3, 3), "pad": (1,)}, r"pads \[1\] do not fit a kernel of 2 dimensions"),
        ("Convolution", {"kernel": "__import__('os')"}, "attribute kernel is a list of whole numbers, the file has"),
        ("Convolution", {"kernel": "(" * 300}, "attribute kernel is a list of whole numbers"),
        ("Convolution", {}, r"kernel \[\] has not 1 to 3 dimensions"),
        (
            "Convolution",
            {"kernel": (3, 3), "no_bias": "maybe"},
            "attribute no_bias is True or False, the file has 'maybe'",
        ),
        ("Pooling", {"kernel": (2, 2), "pool_type": "lp"}, "pool_type lp is not supported"),
        ("Pooling", {"kernel": (9, 9)}, "is larger than the image"),
        ("FullyConnected", {"num_hidden": 5}, r"weight 'w' has the shape \[4, 3, 3, 3\], expected \[5, \?\]"),
        ("Activation", {"act_type": "wavy"}, "act_type wavy is none of relu"),
        ("Reshape", {"shape": (-5, 1)}, "is not one"),
        ("Reshape", {"shape": (7, 11, -1)}, "does not fit its inputs"),
        ("Reshape", {"shape": (0, -4, 2, 2, -2)}, "3 cannot be split into 2 and 2"),
        ("SliceChannel", {"num_outputs": 2}, "axis 1 of .* cannot be split in 2 equal parts"),
        ("clip", {"a_min": "nan", "a_max": 1}, "attribute a_min is a number"),
        ("Cast", {"dtype": "object"}, "dtype object is none of float32"),
        ("Dropout", {"mode": "always"}, "draws random numbers"),
    ],
)
def test_what_cannot_be_says_why(op: str, attributes: Any, message: str) -> None:
    weights = {"w": normal(4, 3, 3, 3), "b": normal(4)} if op in ("Convolution", "FullyConnected") else {}
    with pytest.raises(ModelError, match=message) as caught:
        run(op, {"x": normal(2, 3, 8, 8)}, weights, attributes)
    assert str(caught.value).startswith(f"{op} 'y' (node ")
    assert "\n" not in str(caught.value)
