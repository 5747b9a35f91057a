"""Every table and figure of the study, for one run or two side by side."""

from tegakari.analyses.study.run import KIND, study

__all__ = ["KIND", "study"]
