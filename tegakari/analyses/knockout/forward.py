"""Documents through the classifier as it is, and without sets of features; several questions share the passes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tegakari.analyses.engine.batches import BATCH_TOKENS
from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.prefix_cache import Passes
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.controls import FeatureSet
from tegakari.models.classifier import text_config
from tegakari.models.rerun.ablate_features import TOKENS_TOGETHER, rerun
from tegakari.models.rerun.edits import Edit, Mode, Positions
from tegakari.schemas.progress import Progress


class Removal(NamedTuple):
    """Features taken out in one way. The empty set changes nothing, or in reconstruction mode decodes all features."""

    features: FeatureSet
    mode: Mode
    positions: Positions
    layers: tuple[int, ...]
    """that are edited, ascending; those of the features, or of those taken out beside them."""

    @property
    def edits(self) -> list[Edit]:
        if not self.features and self.mode == "error_preserving":
            return []
        return [
            Edit(
                layer,
                tuple(each.feature for each in self.features if each.layer == layer),
                self.mode,
                self.positions,
            )
            for layer in self.layers
        ]


class Logits(NamedTuple):
    """What came of documents."""

    before: np.ndarray
    """float32 [D, labels]"""
    after: np.ndarray
    """float32 [removals, D, labels]"""
    truncated: int
    """documents whose end was cut"""
    before_seconds: float
    after_seconds: float
    kept: bool
    """whether the ordinary passes were kept from before"""


def run_removals(models: RunModels, texts: Sequence[str], removals: Sequence[Removal], progress: Progress) -> Logits:
    """Run documents with and without features.

    Args:
        models: of the run.
        texts: of the documents.
        removals: features to ablate, each alone.
        progress: advanced by the documents of each batch; the caller begins the stage.

    Raises:
        MemoryShortError: it would take more memory than is free.
        QueryError: a text without a token.
    """
    wanted = _wanted(models, texts, removals)
    kept = models.prefixes.has(wanted)
    labels = len(models.classifier.labels)
    _check_memory(models, wanted, removals, len(texts) * labels)
    before = np.empty((len(texts), labels), np.float32)
    after = np.empty((len(removals), len(texts), labels), np.float32)
    edits = [removal.edits for removal in removals]
    truncated = 0
    seconds = [0.0, 0.0]
    passes = models.prefixes.run(models.classifier, wanted)
    while True:
        started = time.perf_counter()
        ordinary = next(passes, None)
        seconds[0] += time.perf_counter() - started
        if ordinary is None:
            break
        started = time.perf_counter()
        before[ordinary.members] = ordinary.prefix.logits.cpu().numpy()
        after[:, ordinary.members] = rerun(models.classifier, models.saes, ordinary.prefix, edits).cpu().numpy()
        seconds[1] += time.perf_counter() - started
        truncated += ordinary.truncated
        progress.advance(len(ordinary.members))
    return Logits(before, after, truncated, seconds[0], seconds[1], kept)


def _wanted(models: RunModels, texts: Sequence[str], removals: Sequence[Removal]) -> Passes:
    first = {removal.layers[0] for removal in removals if removal.layers}
    at_last = [removal.layers[0] for removal in removals if removal.layers and removal.positions == "last"]
    return Passes(texts, tuple(sorted(first)), min(at_last, default=None))


def _check_memory(models: RunModels, wanted: Passes, removals: Sequence[Removal], answers: int) -> None:
    """Estimate what the largest batch takes: kept tensors, an MLP's two inner ones, attention's scores, logits."""
    classifier = models.classifier
    config = text_config(classifier.model)
    longest = min(classifier.max_length, max(map(len, wanted.texts)) + 2)
    tokens = max(longest, min(BATCH_TOKENS, longest * len(wanted.texts)))
    together = max(tokens, min(TOKENS_TOGETHER, tokens * len(removals)))
    width, inner = config.hidden_size, config.intermediate_size
    a_position = len(wanted.layers) * width
    if wanted.keys_above is not None:
        a_position += 2 * width * (classifier.layers - wanted.keys_above)
    values = tokens * a_position + together * (4 * width + 2 * inner + config.num_attention_heads * longest)
    wide = [models.saes[layer].d_sae for each in removals if each.mode == "reconstruction" for layer in each.layers]
    needed = values * classifier.dtype.itemsize + 4 * (tokens * max(wide, default=0) + (len(removals) + 1) * answers)
    refuse_beyond_memory(needed, classifier.device, fix="ask for fewer documents, layers or draws")
