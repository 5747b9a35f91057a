"""Sparse encode on the GPU, in Triton."""
