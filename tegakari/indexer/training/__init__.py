"""Training of classifiers and SAEs."""
