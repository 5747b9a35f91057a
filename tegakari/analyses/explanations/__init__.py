"""Explanations of features, and their scores."""
