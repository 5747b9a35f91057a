"""Simulations of what reports state, where the truth is known: coverage of intervals, and false statements."""
