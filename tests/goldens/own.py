"""What our writer makes: one message for each kind, type and corner, with exactly these bytes."""

from __future__ import annotations

from typing import Any

import numpy as np
import oracle
from oracle import Message

import tensorwire as tw

INLINE_NBYTES = 512
"""Payloads up to this size stand in the header's buffer; the bytes of the message do not show it."""


def messages() -> dict[str, Any]:
    found: dict[str, Any] = {
        "request_empty": tw.Request(),
        "request_metadata": tw.MetadataRequest(),
        "request_all_fields": tw.Request(
            {"x": np.arange(6, dtype="<f4").reshape(2, 3), "é": np.array([7, -7], "<i8")},
            ["y", "z"],
            config='{"k": 1}',
            model="digits",
            version=3,
            label="stable",
            signature="predict",
            id="4711",
            deadline_ms=1500,
        ),
        "request_appended_alone": tw.Request(model="m", version=2**63 - 1, deadline_ms=1),
        "request_unnamed": tw.Request([np.uint8([1, 2, 3]), np.float64(0.5)]),
        "request_payload_views": tw.Request(
            {"a": np.arange(INLINE_NBYTES, dtype="u1"), "b": np.arange(65, dtype="<f8"), "c": np.int8([1])}
        ),
        "request_scalar": tw.Request({"x": np.float64(-1.5)}),
        "request_zero_rows": tw.Request({"x": np.zeros((0, 4), "<f4"), "s": np.zeros((0,), object)}),
        "request_32_dimensions": tw.Request({"x": np.arange(4, dtype="<u2").reshape(2, *[1] * 30, 2)}),
        "request_strings": tw.Request({"s": np.array([[b"", b"\0"], [b"a\0b\0", "é\0".encode()]], object)}),
        "request_string_scalar": tw.Request({"s": b"one"}),
        "request_empty_name": tw.Request({"": np.uint8([1])}, [""]),
        "response_one": tw.Response({"y": np.linspace(0, 1, 5, dtype="<f4")}),
        "response_unnamed": tw.Response([np.arange(4, dtype="<i4").reshape(2, 2), np.array([b"a"], object)]),
        "response_empty": tw.Response(),
        "response_errors": tw.Response(errors=[tw.Status(-(2**63), "no"), tw.Status(5, "")]),
        "metadata_empty": tw.Metadata(),
        "metadata_full": tw.Metadata(
            "digits",
            "3",
            "tensorwire",
            "Handwritten digits",
            [tw.TensorSpec("x", "<f4", [-1, 64], "pixels"), tw.TensorSpec("any")],
            [tw.TensorSpec("label", object, [-1]), tw.TensorSpec("p", "<f4", [-1, 10], "probabilities")],
        ),
    }
    for dtype in oracle.WIRE_TYPES.values():
        values = np.array([[0, 1, 2], [3, 1, 0]]).astype(dtype)
        found[f"type_{dtype.name}"] = tw.Request({"x": values})
    return found


def golden(message: Any, meaning: Message) -> tuple[bytes, Message]:
    return bytes(tw.encode(message)), meaning
