"""Study: every table and figure of the study, for one run or for two side by side, as data and as a report."""

from tegakari.analyses.study.compute import study

__all__ = ["study"]
