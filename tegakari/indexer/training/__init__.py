"""Training of classifiers and of sparse autoencoders (SAEs)."""
