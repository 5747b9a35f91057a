"""Explanation: the features and tokens that a document's label depends on.

Definitions: docs/explanation.md. The package imports nothing, so that a client without the store prints explanations.
"""
