"""encode: what it takes, what it refuses, where it puts things."""

from __future__ import annotations

import array
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import oracle
import pytest
from numpy.dtypes import StringDType
from oracle import Message

import tensorwire as tw


def sent(value: Any) -> Message:
    """The one tensor that a request of `value` carries, as the oracle reads it."""
    [tensor] = oracle.without_offsets(oracle.read_request(bytes(tw.encode(tw.Request([value])))))["input_tensors"]
    return tensor  # type: ignore[no-any-return]


# Types


@pytest.mark.parametrize("wire", oracle.WIRE_TYPES)
@pytest.mark.parametrize("order", ["=", "<", ">"])
def test_numeric_types(wire: int, order: str) -> None:
    dtype = oracle.WIRE_TYPES[wire]
    values = np.array([[0, 1, 2], [3, 2, 1]]).astype(dtype)
    # ml_dtypes has this machine's byte order only.
    given = values.astype(dtype.newbyteorder(order)) if dtype.isbuiltin == 1 else values
    assert sent(given) == {"type": wire, "shape": [2, 3], "data": values.tobytes()}


@pytest.mark.parametrize(
    "code",
    [
        "M8[s]",
        "m8[D]",
        "V3",
        "f4,i4",
        "g",
        "G",
        ml_dtypes.int4,
        ml_dtypes.float8_e4m3,
        ml_dtypes.float8_e5m2fnuz,
    ],
)
def test_types_that_the_wire_lacks(code: Any) -> None:
    dtype = np.dtype(code)
    with pytest.raises(tw.EncodeError) as caught:
        tw.encode(tw.Request({"x": np.zeros(2, dtype)}))
    assert str(caught.value) == f"input 'x': the wire has no type for dtype {dtype}"


def test_platform_names_of_integers() -> None:
    for code, wire in {
        "q": 8,
        "l": 8,
        "i": 6,
        "h": 4,
        "b": 2,
        "Q": 7,
        "L": 7,
        "I": 5,
        "H": 3,
        "B": 1,
    }.items():
        assert sent(np.zeros(1, code))["type"] == wire


# Strings


NUL_TEXT = ["", "\0", "a\0b", "end\0\0", "é€😀"]
NUL_BYTES = [each.encode() for each in NUL_TEXT]


@pytest.mark.parametrize(
    "value",
    [
        np.array(NUL_TEXT, object),
        np.array(NUL_BYTES, object),
        np.array([NUL_TEXT[0], *NUL_BYTES[1:]], object),
        np.array(NUL_TEXT, StringDType()),
        np.array([x for each in NUL_TEXT for x in (each, "-")], StringDType())[::2],
        NUL_TEXT,
        tuple(NUL_BYTES),
        [np.str_("").item(), *NUL_BYTES[1:]],
    ],
    ids=["str", "bytes", "both", "StringDType", "StringDType strided", "list", "tuple", "list of both"],
)
def test_strings_keep_their_nuls(value: Any) -> None:
    assert sent(value) == {"type": 12, "shape": [5], "strings": NUL_BYTES}


@pytest.mark.parametrize("code", ["S5", "U5", ">U5"])
def test_fixed_width_strings_end_where_numpy_says(code: str) -> None:
    """numpy pads them with NULs and gives none back: trailing ones cannot be told from padding."""
    given = np.array(["", "a\0b", "end\0\0"], code)
    assert sent(given)["strings"] == [b"", b"a\0b", b"end"]
    if code != "S5":
        assert sent(np.array(["é"], code))["strings"] == ["é".encode()]


@pytest.mark.parametrize("value", ["a\0", b"a\0", np.array("a\0", object), np.array("a\0", StringDType())])
def test_one_string(value: Any) -> None:
    assert sent(value) == {"type": 12, "shape": [], "strings": [b"a\0"]}


def test_strings_in_any_order_and_shape() -> None:
    grid = np.array([[b"a", b"b"], [b"c", b"d"]], object)
    assert sent(grid.T)["strings"] == [b"a", b"c", b"b", b"d"]
    assert sent(grid[::-1])["strings"] == [b"c", b"d", b"a", b"b"]
    assert sent(np.broadcast_to(np.array(b"x", object), (2, 2)))["strings"] == [b"x"] * 4
    assert sent(np.zeros((2, 0, 3), object)) == {"type": 12, "shape": [2, 0, 3], "strings": []}


class Text(str):
    __slots__ = ()


class Octets(bytes):
    __slots__ = ()


def test_subclasses_of_str_and_bytes() -> None:
    given = np.array([Text("a"), Octets(b"b\0"), np.str_("c"), np.bytes_(b"d")], object)
    assert sent(given)["strings"] == [b"a", b"b\0", b"c", b"d"]


@pytest.mark.parametrize("element", [1, None, 1.5, bytearray(b"x"), ["x"]])
def test_elements_that_are_no_strings(element: Any) -> None:
    given = np.empty(2, object)
    given[:] = [b"fine", element]
    with pytest.raises(tw.EncodeError) as caught:
        tw.encode(tw.Response({"y": given}))
    kind = type(element).__name__
    assert str(caught.value) == f"output 'y': element 1 is {kind}; a string tensor holds bytes or str"


def test_a_list_of_text_and_numbers_is_refused() -> None:
    with pytest.raises(tw.EncodeError, match="input 0: element 1 is int"):
        tw.encode(tw.Request([["a", 1]]))


def test_text_that_utf8_lacks() -> None:
    for request in (tw.Request([["\ud800"]]), tw.Request({"\ud800": 1}), tw.Request(config="\ud800")):
        with pytest.raises(tw.EncodeError) as caught:
            tw.encode(request)
        assert str(caught.value) == r"'\ud800' cannot be sent as UTF-8: surrogates not allowed"


# Memory layouts


BASE = np.arange(24, dtype="<f4").reshape(2, 3, 4)


def big_endian() -> np.ndarray[Any, Any]:
    return BASE.astype(">f4")


def read_only() -> np.ndarray[Any, Any]:
    view = BASE.view()
    view.flags.writeable = False
    return view


LAYOUTS: dict[str, np.ndarray[Any, Any]] = {
    "C": BASE,
    "Fortran": np.asfortranarray(BASE),
    "transposed": BASE.T,
    "strided": BASE[:, ::2, 1:],
    "reversed": BASE[::-1, :, ::-1],
    "broadcast": np.broadcast_to(BASE[:, :1], (5, 2, 3, 4)),
    "big-endian": big_endian(),
    "big-endian strided": big_endian()[::-1],
    "read-only": read_only(),
    "misaligned": np.frombuffer(b"\0" + BASE.tobytes(), "<f4", offset=1).reshape(BASE.shape),
    "0-d": np.array(1.5, "<f4"),
    "zero rows": BASE[:0],
    "zero columns": BASE[:, :, :0],
    "32-d": BASE.reshape(2, 12, *[1] * 30),
    "matrix": BASE[0].view(np.matrix),
    "matrix strided": BASE[0].view(np.matrix)[:, ::2],
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(name: str) -> None:
    array = LAYOUTS[name]
    assert sent(array) == {
        "type": 10,
        "shape": list(array.shape),
        "data": np.asarray(array).astype("<f4").tobytes(),
    }


def test_more_dimensions_than_a_reader_takes_by_default() -> None:
    given = np.zeros([1] * 64, "u1")
    buf = bytes(tw.encode(tw.Request([given])))
    with pytest.raises(tw.LimitError):
        tw.decode(buf)
    assert tw.decode(buf, tw.Request, max_ndim=64).inputs[0].shape == given.shape


def test_memory_mapped(tmp_path: Path) -> None:
    path = tmp_path / "data"
    path.write_bytes(BASE.tobytes() * 100)
    mapped = np.memmap(path, "<f4", "r", shape=(100, *BASE.shape))
    assert sent(mapped)["data"] == path.read_bytes()
    frame = tw.encode(tw.Request([mapped]))
    assert np.shares_memory(np.frombuffer(frame.buffers[1], "u1"), mapped)


def test_masked_arrays_are_refused() -> None:
    """What a mask hides would be sent as if it were there."""
    for masked in (np.ma.array([1, 2], mask=[0, 1]), np.ma.array([1, 2]), np.ma.masked):
        with pytest.raises(tw.EncodeError) as caught:
            tw.encode(tw.Request({"x": masked}))
        assert str(caught.value) == "input 'x': the wire has no masks; send array.filled() or array.data"
    assert sent(np.ma.array([1, 2], mask=[0, 1]).filled(9))["data"] == np.array([1, 9]).tobytes()


# Things that are no arrays


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1, np.int64(1)),
        (1.5, np.float64(1.5)),
        (True, np.bool_(True)),
        (1j, np.complex128(1j)),
        (np.float32(2), np.float32(2)),
        ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]])),
        ([], np.zeros(0)),
        (range(3), np.arange(3)),
        (bytearray(b"abc"), np.frombuffer(b"abc", "u1")),
        (memoryview(b"abc"), np.frombuffer(b"abc", "u1")),
        (memoryview(BASE)[::-1], BASE[::-1]),
        (array.array("d", [1, 2]), np.array([1.0, 2.0])),
        (array.array("H", [1, 2]), np.array([1, 2], "u2")),
        ([np.float32(1), np.float32(2)], np.array([1, 2], "f4")),
    ],
    ids=lambda each: type(each).__name__,
)
def test_scalars_sequences_and_buffers(value: Any, expected: Any) -> None:
    assert sent(value) == oracle.as_tensor(np.asarray(expected))


def test_no_arrays_at_all() -> None:
    with pytest.raises(tw.EncodeError, match=r"input 'x': list is not an array: .*inhomogeneous"):
        tw.encode(tw.Request({"x": [[1], [2, 3]]}))
    with pytest.raises(tw.EncodeError, match="input 0: element 0 is object; a string tensor"):
        tw.encode(tw.Request([object()]))
    for value in (None, 1, b"bytes", {"x": 1}, tw.Tensors([1]), tw.Status(1, "")):
        with pytest.raises(tw.EncodeError, match=f"encode takes .*, not {type(value).__name__}$"):
            tw.encode(value)  # type: ignore[arg-type]


# Over 2 GiB: the arrays are mapped but never touched, so they take no memory


def test_two_gibibytes_is_too_much() -> None:
    with pytest.raises(tw.EncodeError) as caught:
        tw.encode(tw.Request([np.zeros(2**31, "u1")]))
    text = "the message would have 2,147,483,776 bytes; a flatbuffer ends below 2 GiB (2,147,483,648)"
    assert str(caught.value) == text
    with pytest.raises(tw.EncodeError, match="2 GiB"):
        tw.encode(tw.Response([np.zeros(2**28, "f8"), np.zeros(2**10, "f8")]))


def test_just_below_two_gibibytes() -> None:
    room = 2**31 - 1 - 128  # the payload starts there
    frame = tw.encode(tw.Request([np.zeros(room, "u1")]))
    assert frame.nbytes == sum(memoryview(each).nbytes for each in frame.buffers) == 2**31 - 1
    with pytest.raises(tw.EncodeError):
        tw.encode(tw.Request([np.zeros(room + 1, "u1")]))


def test_a_broadcast_of_two_gibibytes_is_refused_before_it_is_copied() -> None:
    for endless in (np.broadcast_to(np.float64(0), (2**40,)), np.broadcast_to(np.array(0, ">u2"), (2**30,))):
        with pytest.raises(tw.EncodeError, match=r"^input 'x': [\d,]+ bytes; a flatbuffer ends below 2 GiB$"):
            tw.encode(tw.Request({"x": endless}))


# Where payloads stand


def test_every_payload_is_aligned() -> None:
    arrays = [np.ones(n, code) for n in (1, 3, 64, 65, 1000) for code in ("u1", "<f2", "<f8")]
    names = [f"{i:x}" * i for i in range(len(arrays))]
    for message in (
        tw.Request(dict(zip(names, arrays, strict=True)), names, config="c" * 7),
        tw.Response(arrays),
    ):
        buf = bytes(tw.encode(message))
        read = oracle.read_request if isinstance(message, tw.Request) else oracle.read_infer_response
        meant = read(buf)
        tensors = meant["input_tensors" if isinstance(message, tw.Request) else "output_tensors"]
        starts = [tensor["data_offset"] for tensor in tensors]
        assert [start % 64 for start in starts] == [0] * len(arrays)
        assert starts == sorted(starts)
        chunk = tw.Chunk(len(buf))
        memoryview(chunk)[:] = buf
        decoded = tw.decode(chunk, type(message))
        views = decoded.inputs if isinstance(decoded, tw.Request) else decoded.outputs
        assert all(view.ctypes.data % 64 == 0 for view in views.arrays)


def test_a_message_half_made_is_an_error_and_no_crash() -> None:
    for kind in (tw.Request, tw.Response, tw.Metadata):
        with pytest.raises((TypeError, AttributeError)):
            tw.encode(kind.__new__(kind))


@pytest.mark.parametrize("nbytes", [0, 511, 512, 513, 4096, 8192, 8196])
@pytest.mark.parametrize("limit", [0, 512, 8192])
def test_how_large_a_tensor_goes_into_the_header(nbytes: int, limit: int) -> None:
    x = np.random.default_rng(nbytes).integers(0, 255, nbytes, np.uint8)
    frame = tw.encode(tw.Response({"x": x, "y": x[:3]}), inline_nbytes=limit)
    assert (len(frame.buffers) == 1) == (nbytes <= limit)
    assert any(np.shares_memory(x, np.frombuffer(part, np.uint8)) for part in frame.buffers) == (nbytes > limit)
    assert bytes(frame) == bytes(tw.encode(tw.Response({"x": x, "y": x[:3]})))
