"""Analyses of published runs: knockouts, circuits, written variants, comparisons of runs, and the study's report."""
