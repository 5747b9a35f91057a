"""Analyses of finished runs: knockouts, circuits, written variants, comparisons of runs, and the study's report."""
