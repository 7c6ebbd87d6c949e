"""Tensor specs as text: what is read, what is written, and the two together."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tensorwire import TensorSpec
from tensorwire.servers.commands.values import spec_text
from tensorwire.servers.model import ModelError
from tensorwire.servers.spec_text import dtype_text, parse_spec, parse_specs, shape_text

DTYPES = [
    *(None, object, np.bool_, np.complex64, np.complex128, np.float16, np.float32, np.float64),
    *(np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2),
]


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("x:float32[?, 3, 224, 224]", TensorSpec("x", np.float32, (-1, 3, 224, 224))),
        ("x : float32 [-1,3]", TensorSpec("x", np.float32, (-1, 3))),
        ("image float32 [?, 8, 8]", TensorSpec("image", np.float32, (-1, 8, 8))),
        ("x:int64", TensorSpec("x", np.int64)),
        ("x", TensorSpec("x")),
        ("x[?, 3]", TensorSpec("x", None, (-1, 3))),
        ("x:any[3]", TensorSpec("x", None, (3,))),
        ("t:string[?]", TensorSpec("t", object, (-1,))),
        ("x:0", TensorSpec("x:0")),
        ("x:0[?, 3]", TensorSpec("x:0", None, (-1, 3))),
        ("scope/x:0:bfloat16[2]", TensorSpec("scope/x:0", ml_dtypes.bfloat16, (2,))),
        ("two words", TensorSpec("two words")),
        ("two words bool []", TensorSpec("two words", np.bool_)),
        ("float32:float32[?]", TensorSpec("float32", np.float32, (-1,))),
    ],
)
def test_a_spec_is_read(text: str, spec: TensorSpec) -> None:
    assert parse_spec(text) == spec
    assert parse_specs(text) == (spec,)


def test_several_specs_have_commas_between_them() -> None:
    assert parse_specs("a:float32[?, 4], b:int64[2],c") == (
        TensorSpec("a", np.float32, (-1, 4)),
        TensorSpec("b", np.int64, (2,)),
        TensorSpec("c"),
    )
    assert parse_specs(" ") == ()


def test_a_name_can_be_given_beside_the_text() -> None:
    assert parse_spec("float32[?, 4]", "x") == TensorSpec("x", np.float32, (-1, 4))
    assert parse_spec("[?, 4]", "x") == TensorSpec("x", None, (-1, 4))
    assert parse_spec("y:float32[?, 4]", "x") == TensorSpec("y", np.float32, (-1, 4))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x:flaot32[?]", r"'x:flaot32\[\?\]': unknown dtype 'flaot32': there are any, bfloat16, bool, "),
        ("x flaot32 [?]", "unknown dtype 'flaot32'"),
        ("x:flaot32", "unknown dtype 'flaot32'"),
        ("float32[?]", r"'float32\[\?\]' has no name: write 'x:float32\[\?, 4\]'"),
        ("x:float32[N, 3]", "'N' is not a size: write a number, or . for any"),
        ("x:float32[3.5]", "'3.5' is not a size"),
        ("x:float32[-2]", "'-2' is not a size"),
        ("x:float32[,]", "'' is not a size"),
        ("x:float32[²]", "is not a size"),
        (f"x:float32[{2**63}]", "is not a size"),
        (f"x:float32[{'9' * 10_000}]", "is not a size"),
        ("x:float32[?", "is not a tensor such as 'x:float32"),
        ("x:float32]?[", "is not a tensor such as"),
        ("x:float32[?][3]", "is not a tensor such as"),
        ("x:float32[?],x", "has 'x' twice"),
    ],
)
def test_what_is_no_spec_is_refused_with_the_text(text: str, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        parse_specs(text)


def test_a_dtype_with_a_slip_is_no_name() -> None:
    with pytest.raises(ModelError, match="unknown dtype 'flaot32'"):
        parse_spec("flaot32[?]", "x")


NAMES = st.from_regex(r"[A-Za-z_][A-Za-z0-9_/.]{0,8}(:[0-9])?", fullmatch=True)
SPECS = st.builds(TensorSpec, NAMES, st.sampled_from(DTYPES), st.lists(st.integers(-1, 2**63 - 1), max_size=5))


@given(st.lists(SPECS, max_size=4, unique_by=lambda spec: spec.name))
def test_what_is_shown_is_read_back(specs: list[TensorSpec]) -> None:
    assert parse_specs(", ".join(map(spec_text, specs))) == tuple(specs)
    joined = ",".join(f"{s.name}:{dtype_text(s.dtype)}{shape_text(s.shape)}" for s in specs)
    assert parse_specs(joined) == tuple(specs)
