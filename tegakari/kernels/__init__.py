"""Sparse encode: the active features of residuals. `reference.py` defines it; README.md describes the paths."""

from tegakari.kernels.dispatch import backend, encode
from tegakari.kernels.input_norm import TokenStatistics, token_statistics
from tegakari.kernels.tally import add_to_tally, finish_tally, new_tally
from tegakari.kernels.types import Columns, Encoded, Encoder, InputNorm, Pooled, Rows, Survivors

__all__ = [
    "Columns",
    "Encoded",
    "Encoder",
    "InputNorm",
    "Pooled",
    "Rows",
    "Survivors",
    "TokenStatistics",
    "add_to_tally",
    "backend",
    "encode",
    "finish_tally",
    "new_tally",
    "token_statistics",
]
