"""Sparse encode: the active features of residuals. `reference.py` defines it; README.md describes the paths."""

from tegakari.kernels.dispatch import backend, encode
from tegakari.kernels.types import Columns, Encoded, Encoder, Pooled, Rows, Survivors

__all__ = ["Columns", "Encoded", "Encoder", "Pooled", "Rows", "Survivors", "backend", "encode"]
