"""Benchmarks of the GPU path: `python -m benchmarks.gpu`."""
