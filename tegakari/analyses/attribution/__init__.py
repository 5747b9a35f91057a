"""Attribution: the features and tokens that a document's label depends on.

Definitions: docs/attribution.md. The package imports nothing, so that a client without the store prints attributions.
"""
