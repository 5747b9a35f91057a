"""Benchmarks of a GPU: `make bench-gpu`."""
