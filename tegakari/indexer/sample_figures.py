"""Figures of samples of a run's documents: explained variance of the SAEs, and the gradients of label effects.

Both samples are at equal steps, one over the evaluation documents, the other over the documents of the run. Where they
are the same documents, which is the rule, one pass measures both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import structlog
from safetensors.torch import load, save
from torch import Tensor

from tegakari.indexer.corpus import read_documents
from tegakari.indexer.effects import effect_sample, layers_with_effects
from tegakari.indexer.norm_limits import at_equal_steps
from tegakari.indexer.shard import IndexedDocument
from tegakari.models.classifier import Classifier
from tegakari.models.explained_variance import LayerQuality, VarianceSums, doubts, explained_variance
from tegakari.models.label_effects import label_gradients
from tegakari.models.sae import Sae
from tegakari.models.tokens import Batch
from tegakari.schemas.config import Config
from tegakari.schemas.progress import Progress
from tegakari.store.disk.durable import write_atomically

log = structlog.get_logger()


class SampleFigures(NamedTuple):
    """What an index measures on samples."""

    quality: dict[int, LayerQuality]
    """by layer; empty where no evaluation document has a countable position."""
    gradients: dict[int, Tensor]
    """of the layers that have label effects, as of `label_gradients`; none in a run without them."""


def sample_figures(
    config: Config,
    classifier: Classifier,
    saes: Mapping[int, Sae],
    documents: Sequence[IndexedDocument],
    files: tuple[Path, Path],
    progress: Progress,
    *,
    effects: bool,
) -> SampleFigures:
    """Measure both samples, unless an interrupted index has.

    Args:
        config: of the index.
        classifier: of the run.
        saes: by layer, with their limits of norms.
        documents: of the run.
        files: of the quality and of the gradients, for a resumed index and for another machine that merges.
        progress: receives the stage.
        effects: whether the run has label effects.
    """
    quality_file, gradients_file = files
    if not quality_file.is_file() or (effects and not gradients_file.is_file()):
        quality, gradients = _measured(config, classifier, saes, documents, progress, effects=effects)
        for layer, layer_quality in quality.items():
            for reason in doubts(layer_quality):
                log.warning("doubtful SAE", layer=layer, reason=reason)
        # Layers without an input norm have one tensor in common, which the format does not allow.
        write_atomically(gradients_file, save({str(layer): tensor.clone() for layer, tensor in gradients.items()}))
        write_atomically(quality_file, msgspec.json.encode(quality))
    return SampleFigures(
        msgspec.json.decode(quality_file.read_bytes(), type=dict[int, LayerQuality]),
        {int(layer): tensor for layer, tensor in load(gradients_file.read_bytes()).items()} if effects else {},
    )


def _measured(
    config: Config,
    classifier: Classifier,
    saes: Mapping[int, Sae],
    documents: Sequence[IndexedDocument],
    progress: Progress,
    *,
    effects: bool,
) -> SampleFigures:
    batch_tokens = config.index.batch_tokens
    held_out = at_equal_steps(
        read_documents(Path(config.corpus.path), "eval"), config.index.explained_variance_documents
    )
    direct = layers_with_effects(classifier, saes) if effects else {}
    sample = effect_sample(documents) if direct else []
    progress.stage("measuring explained variance", len(held_out))
    tokens = [document.tokens for document in sample]
    if direct and [document.id for document in sample] == [document.id for document in held_out]:
        sums = VarianceSums(classifier, saes)

        def add(batch: Batch, layer: int, residual: Tensor) -> None:
            sums.add(batch, layer, residual)
            if layer == max(saes):
                progress.advance(len(batch.input_ids))

        gradients = label_gradients(classifier, direct, tokens, batch_tokens, on_residual=add, layers=list(saes))
        return SampleFigures(sums.quality(), gradients)
    texts = [document.text for document in held_out]
    quality = explained_variance(classifier, saes, texts, batch_tokens=batch_tokens, advance=progress.advance)
    if not direct:
        return SampleFigures(quality, {})
    progress.stage("label effects")
    return SampleFigures(
        quality, label_gradients(classifier, direct, tokens, batch_tokens, lambda: progress.advance(0))
    )
