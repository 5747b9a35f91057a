"""Written variants: how many features of a concept depend on the way it is written (the study, section 5.2)."""

from tegakari.analyses.variants.concepts import read_concepts
from tegakari.analyses.variants.run import variants

__all__ = ["read_concepts", "variants"]
