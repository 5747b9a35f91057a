"""Written variants: how many features of a concept depend on the way it is written (the study, section 5.2)."""

from tegakari.analyses.variants.compute import variants
from tegakari.analyses.variants.concepts import read_concepts

__all__ = ["read_concepts", "variants"]
