"""The classifier and the SAEs of a run, loaded as its configuration says."""

from __future__ import annotations

from pathlib import Path

from tegakari.models.classifier import Classifier
from tegakari.models.loading import load_classifier
from tegakari.models.sae import Sae
from tegakari.models.sae_formats import check_fits, load_saes
from tegakari.schemas.config import Config


def load_inputs(config: Config) -> tuple[Classifier, dict[int, Sae]]:
    """Load the classifier, and the SAE of each layer to index.

    Raises:
        ModelError, SaeError: one is missing or does not fit the other.
    """
    classifier = load_classifier(
        config.classifier.path,
        max_length=config.classifier.max_length,
        device=config.index.device,
        dtype=config.index.dtype,
    )
    saes = load_saes(Path(config.saes.path))
    if config.saes.layers:
        saes = {layer: sae for layer, sae in saes.items() if layer in config.saes.layers}
    check_fits(saes, classifier)
    return classifier, saes
