"""Every table and figure of the study, for one run or two side by side."""

from tegakari.analyses.study.answers import KIND, study

__all__ = ["KIND", "study"]
