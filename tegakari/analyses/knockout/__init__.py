"""Knockout: features of a layer are ablated, and the classifier is run again on the documents without them.

Definitions: docs/knockout.md; the study, section 4.3.
"""

from tegakari.analyses.knockout.compute import (
    compute_knockouts,
    knock_out,
    knock_out_all,
    knockout_key,
    stored_knockout,
)
from tegakari.analyses.knockout.settings import cost_of_knockout, resolve

__all__ = [
    "compute_knockouts",
    "cost_of_knockout",
    "knock_out",
    "knock_out_all",
    "knockout_key",
    "resolve",
    "stored_knockout",
]
