"""SAEs on disk: SAELens (read and written), sparsify, dictionary_learning and Gemma Scope (read)."""

from tegakari.models.sae_formats.collection import check_fits, load_sae, load_saes
from tegakari.models.sae_formats.saelens import save_sae

__all__ = ["check_fits", "load_sae", "load_saes", "save_sae"]
