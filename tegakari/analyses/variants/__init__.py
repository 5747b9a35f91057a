"""How much of a concept's features hangs on the way it is written (the study, section 5.2)."""

from tegakari.analyses.variants.answers import KIND, variants
from tegakari.analyses.variants.concepts import read_concepts

__all__ = ["KIND", "read_concepts", "variants"]
