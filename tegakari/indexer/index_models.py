"""The classifier and the SAEs of an index, loaded as its configuration says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import msgspec

from tegakari.models.classifier import Classifier
from tegakari.models.fingerprint import fingerprint
from tegakari.models.hub_cache import check_blobs
from tegakari.models.loading import load_classifier
from tegakari.models.sae import Sae
from tegakari.models.sae_conditions import under_conditions
from tegakari.models.sae_formats import check_fits, load_saes, sae_files
from tegakari.models.sae_start import start_seed
from tegakari.schemas.config import Config
from tegakari.schemas.decoding import decode_json
from tegakari.schemas.saes import REPORT_FILE, SaesReport


@dataclass(frozen=True)
class IndexModels:
    """The classifier and the SAEs of an index, with the hashes of their files."""

    classifier: Classifier
    classifier_sha256: str
    saes: dict[int, Sae]
    """by layer."""
    saes_sha256: str
    start_seeds: list[int] | None
    """seeds of the initial directions, layer by layer; None for SAEs without a report of their training."""


def load_index_models(config: Config) -> IndexModels:
    """Load the models and hash their files.

    Raises:
        ModelError, SaeError: as `load_models`.
    """
    classifier, saes = load_models(config)
    hashes = model_hashes(config, [sae.source for sae in saes.values()])
    seeds = _start_seeds(Path(config.saes.path), saes)
    return IndexModels(classifier, hashes.classifier, saes, hashes.saes, seeds)


class ModelHashes(NamedTuple):
    """Hashes of the files that decide what models compute."""

    classifier: str
    saes: str


def model_hashes(config: Config, sources: Sequence[str]) -> ModelHashes:
    """Hashes of the files of a configuration's models.

    Args:
        config: with directories of this machine.
        sources: of the SAEs, relative to their directory.

    Raises:
        ModelError, SaeError: a file is missing.
    """
    directory = Path(config.saes.path)
    files = sae_files(directory, sources)
    check_blobs(files, "saes.path")
    return ModelHashes(fingerprint(Path(config.classifier.path)), fingerprint(directory, files))


def _start_seeds(directory: Path, saes: Mapping[int, Sae]) -> list[int] | None:
    """Seeds of the initial directions, from the report of the training; None unless it is of every layer."""
    try:
        recipe = decode_json((directory / REPORT_FILE).read_bytes(), SaesReport).recipe
    except (OSError, msgspec.DecodeError):
        return None
    if not saes.keys() <= set(recipe.layers):
        return None
    return [start_seed(recipe.seed, recipe.classifier_sha256, layer) for layer in sorted(saes)]


def load_models(config: Config) -> tuple[Classifier, dict[int, Sae]]:
    """Load the classifier, and the SAE of each layer to index.

    Raises:
        ModelError, SaeError: a model is missing, or the SAEs do not fit the classifier.
    """
    classifier = load_classifier(
        config.classifier.path,
        max_length=config.classifier.max_length,
        device=config.index.device,
        dtype=config.index.dtype,
    )
    saes = load_saes(Path(config.saes.path), config.saes.select, config.saes.layers)
    check_fits(saes, classifier)
    return classifier, under_conditions(saes, classifier)
