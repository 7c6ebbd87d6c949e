"""Caffe2: a NetDef that computes, and one that makes its weights."""

from __future__ import annotations
