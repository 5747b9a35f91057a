"""Every table and figure of the study, for one run or two side by side."""

from tegakari.analyses.study.run import study

__all__ = ["study"]
