"""Simulations of what the reports state: coverage of intervals, and how often a statement holds where the truth is known."""
