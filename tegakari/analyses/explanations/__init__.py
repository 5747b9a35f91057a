"""Explanations of features by language models, and scores of explanations."""
