"""Label effects of all layers, computed with the models of a run and written into its directory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import structlog
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

SAMPLE_DOCUMENTS = 256
"""Documents over which gradients are averaged, at equal steps over the corpus. Between single documents the gradients
have correlations of 0.9 and more with their mean, so that more documents change it by less than 0.03."""

LABELS_AT_ONCE = 16
"""Labels whose effects are in memory together."""


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
    (directory / EFFECTS).mkdir(parents=True, exist_ok=True)
    layers = direct_layers(classifier)
    direct = {layer: sae for layer, sae in saes.items() if layer in layers}
    if len(direct) < len(saes):
        reason = "the blocks above do not pass the residual of these layers on unchanged"
        log.warning("no label effects", layers=sorted(saes.keys() - direct.keys()), reason=reason)
    if not direct:
        return
    progress.stage("label effects")
    sample = at_equal_steps(documents, SAMPLE_DOCUMENTS)
    gradients = label_gradients(classifier, direct, sample, batch_tokens, lambda: progress.advance(0))
    for layer, sae in direct.items():
        write_effects(directory, layer, _by_label(sae.to(classifier.device), gradients[layer]))


def _by_label(sae: Sae, gradients: Tensor) -> Iterator[np.ndarray]:
    """Effects of all features on each label, float32 [d_sae]."""
    for first in range(0, len(gradients), LABELS_AT_ONCE):
        yield from label_effects(gradients[first : first + LABELS_AT_ONCE], sae).T.contiguous().cpu().numpy()
