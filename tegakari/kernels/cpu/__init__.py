"""Sparse encode on the CPU."""
