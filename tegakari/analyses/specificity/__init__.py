"""Specificity: the number of labels that features carry, over all layers of a run (the study, Table 2)."""

from tegakari.analyses.specificity.compute import specificity

__all__ = ["specificity"]
