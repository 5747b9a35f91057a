"""Explanation: the features and tokens that a document's label depends on.

Definitions: docs/explanation.md.
"""

from tegakari.analyses.explanation.settings import ExplanationInput, explanation_input

__all__ = ["ExplanationInput", "explanation_input"]
