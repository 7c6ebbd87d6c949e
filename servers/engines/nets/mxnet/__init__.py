"""MXNet: a symbol (JSON) and its parameters (NDArray list)."""

from __future__ import annotations
