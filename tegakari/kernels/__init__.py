"""Sparse encode: residuals in, active features out. `reference.py` says what it means."""

from tegakari.kernels.dispatch import backend, encode
from tegakari.kernels.types import Columns, Encoded, Encoder, Pooled, Rows, Survivors

__all__ = ["Columns", "Encoded", "Encoder", "Pooled", "Rows", "Survivors", "backend", "encode"]
