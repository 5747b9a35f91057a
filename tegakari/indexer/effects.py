"""Label effects of all layers, computed with the models of a run and written into its directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog
import torch
from torch import Tensor

from tegakari.indexer.norm_limits import at_equal_steps
from tegakari.models.classifier import Classifier
from tegakari.models.label_effects import direct_layers, label_effects, label_gradients
from tegakari.models.sae import Sae
from tegakari.models.tokens import Tokenized
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.store.disk.layout import EFFECTS
from tegakari.store.effects import write_effects

log = structlog.get_logger()

T = TypeVar("T")

SAMPLE_DOCUMENTS = 256
"""Documents over which gradients are averaged, at equal steps over the corpus. Between single documents the gradients
have correlations of 0.9 and more with their mean, so that more documents change it by less than 0.03."""

LABELS_AT_ONCE = 16
"""Labels whose effects are in memory together."""


def effect_sample(documents: Sequence[T]) -> list[T]:
    """The documents of a run over which gradients are averaged."""
    return at_equal_steps(documents, SAMPLE_DOCUMENTS)


def layers_with_effects(classifier: Classifier, saes: Mapping[int, Sae]) -> dict[int, Sae]:
    """Of SAEs by layer those of layers that have label effects."""
    layers = direct_layers(classifier)
    direct = {layer: sae for layer, sae in saes.items() if layer in layers}
    if len(direct) < len(saes):
        reason = "the blocks above do not pass the residual of these layers on unchanged"
        log.warning("no label effects", layers=sorted(saes.keys() - direct.keys()), reason=reason)
    return direct


def add_label_effects(
    directory: Path,
    classifier: Classifier,
    saes: Mapping[int, Sae],
    documents: Sequence[Tokenized],
    batch_tokens: int,
    progress: Progress = NoProgress(),
) -> None:
    """Compute and write the label effects of all layers that have them.

    Args:
        directory: of the run (staged), or of its additions.
        classifier: the run's.
        saes: by layer.
        documents: of the run, each with a countable position.
        batch_tokens: tokens per forward pass.
        progress: counts blocks.
    """
    gradients: dict[int, Tensor] = {}
    if direct := layers_with_effects(classifier, saes):
        progress.stage("label effects")
        sample = effect_sample(documents)
        gradients = label_gradients(classifier, direct, sample, batch_tokens, lambda: progress.advance(0))
    write_label_effects(directory, saes, gradients, classifier.device)


def write_label_effects(
    directory: Path, saes: Mapping[int, Sae], gradients: Mapping[int, Tensor], device: torch.device
) -> None:
    """Write the label effects of layers.

    Args:
        directory: of the run (staged), or of its additions.
        saes: by layer.
        gradients: from `label_gradients`.
        device: that multiplies them.
    """
    (directory / EFFECTS).mkdir(parents=True, exist_ok=True)
    for layer, of_layer in gradients.items():
        write_effects(directory, layer, _by_label(saes[layer].to(device), of_layer.to(device)))


def _by_label(sae: Sae, gradients: Tensor) -> Iterator[np.ndarray]:
    """Effects of all features on each label, float32 [d_sae]."""
    for first in range(0, len(gradients), LABELS_AT_ONCE):
        yield from label_effects(gradients[first : first + LABELS_AT_ONCE], sae).T.contiguous().cpu().numpy()
