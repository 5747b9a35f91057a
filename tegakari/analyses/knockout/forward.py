"""Forward passes of a knockout: documents with all features, and with sets of features ablated.

Knockouts of the same documents share the passes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from torch import Tensor

from tegakari.analyses.engine.memory import refuse_beyond_memory
from tegakari.analyses.engine.prefix_cache import PrefixRequest
from tegakari.analyses.engine.run_models import RunModels
from tegakari.analyses.knockout.controls import FeatureSet
from tegakari.models.classifier import Classifier
from tegakari.models.finite import check_finite
from tegakari.models.rerun.ablate_features import position_bytes, positions_per_pass, reaches_head, rerun
from tegakari.models.rerun.edits import Edit, Mode, Positions
from tegakari.schemas.errors import ModelError, QueryError
from tegakari.schemas.progress import Progress


class FeatureAblation(NamedTuple):
    """A set of features to ablate, and how.

    The empty set changes nothing; in reconstruction mode it decodes all features.
    """

    features: FeatureSet
    mode: Mode
    positions: Positions
    layers: tuple[int, ...]
    """edited layers, ascending: those of the features, or for an empty set those of the knockout it belongs to"""

    @property
    def edits(self) -> list[Edit]:
        if not self.features and self.mode == "error_preserving":
            return []
        return [
            Edit(
                layer,
                tuple(feature.feature for feature in self.features if feature.layer == layer),
                self.mode,
                self.positions,
            )
            for layer in self.layers
        ]


class Logits(NamedTuple):
    """Logits of documents with all features and with sets of features ablated."""

    before: np.ndarray
    """float32 [D, labels]"""
    after: np.ndarray
    """float32 [ablations, D, labels]"""
    truncated: int
    """documents cut at the classifier's max_length"""
    before_seconds: float
    after_seconds: float
    cached: bool
    """whether the passes with all features came from the cache"""


def run_feature_ablations(
    models: RunModels, texts: Sequence[str], ablations: Sequence[FeatureAblation], progress: Progress
) -> Logits:
    """Run documents with all features, and once per set of ablated features.

    Args:
        models: of the run.
        texts: of the documents.
        ablations: sets of features, each ablated alone.
        progress: advanced by the documents of each batch, and by 0 after each block; the caller begins the stage.

    Raises:
        MemoryShortError: it would take more memory than is free.
        QueryError: a text has no token, or edits of one layer cannot reach the head in any document.
        KernelError, ModelError: a residual, a pre-activation or a logit is not finite.
    """
    request = _prefix_request(texts, ablations)
    cached = request in models.prefix_cache
    labels = len(models.classifier.labels)
    _check_memory(models, request, ablations, len(texts) * labels)
    before = np.empty((len(texts), labels), np.float32)
    after = np.empty((len(ablations), len(texts), labels), np.float32)
    edits = [ablation.edits for ablation in ablations]
    unreached = {of_set[0] for of_set in edits if len(of_set) == 1}
    truncated = 0
    before_seconds = after_seconds = 0.0
    on_step = partial(progress.advance, 0)
    batches = models.prefix_cache.run(models.classifier, request, batch_tokens=models.batch_tokens, on_step=on_step)
    while True:
        started = time.perf_counter()
        batch = next(batches, None)
        before_seconds += time.perf_counter() - started
        if batch is None:
            break
        started = time.perf_counter()
        unreached = {
            edit
            for edit in unreached
            if not reaches_head(models.classifier, models.saes[edit.layer], batch.prefix, edit)
        }
        _check_finite(models.classifier, batch.prefix.logits, [texts[member] for member in batch.members])
        before[batch.members] = batch.prefix.logits.cpu().numpy()
        logits = rerun(
            models.classifier,
            models.saes,
            batch.prefix,
            edits,
            max_positions=models.max_positions,
            on_step=on_step,
        )
        after[:, batch.members] = logits.cpu().numpy()
        if not np.isfinite(after[:, batch.members]).all():
            raise ModelError(
                "logits with features ablated are NaN or infinite",
                field="mode",
                fix="index in float32, or ablate fewer features: the edited residual overflows",
            )
        after_seconds += time.perf_counter() - started
        truncated += batch.truncated
        progress.advance(len(batch.members))
    for edit in unreached:
        raise QueryError(
            f"the head reads a norm outlier of layer {edit.layer} in all these documents: no feature is active there",
            field="layer",
            fix="choose another layer, or positions all in a layer below the last",
        )
    return Logits(before, after, truncated, before_seconds, after_seconds, cached)


def _check_finite(classifier: Classifier, logits: Tensor, texts: Sequence[str]) -> None:
    if not bool(logits.isfinite().all()):
        check_finite(classifier, logits, classifier.tokenize(texts), [repr(text[:40]) for text in texts])


def _prefix_request(texts: Sequence[str], ablations: Sequence[FeatureAblation]) -> PrefixRequest:
    first = {ablation.layers[0] for ablation in ablations if ablation.layers}
    first_at_last_position = [
        ablation.layers[0] for ablation in ablations if ablation.layers and ablation.positions == "head"
    ]
    return PrefixRequest(texts, tuple(sorted(first)), min(first_at_last_position, default=None))


def _check_memory(
    models: RunModels, request: PrefixRequest, ablations: Sequence[FeatureAblation], logits_per_pass: int
) -> None:
    """Estimate the memory of the largest batch: cached tensors, two inner ones of an MLP, attention scores, logits."""
    classifier = models.classifier
    longest = min(classifier.max_length, max(map(len, request.texts)) + 2)
    tokens = max(longest, min(models.batch_tokens, longest * len(request.texts)))
    positions = positions_per_pass(classifier, longest)
    if models.max_positions is not None:
        positions = min(positions, models.max_positions)
    rerun_tokens = max(tokens, min(positions, tokens * len(ablations)))
    width = classifier.d_model
    per_position = len(request.layers) * width
    if request.keys_above is not None:
        per_position += 2 * width * (classifier.layers - request.keys_above)
    cached = tokens * per_position * classifier.dtype.itemsize
    passes = rerun_tokens * position_bytes(classifier, longest)
    decoded_widths = [
        models.saes[layer].d_sae
        for ablation in ablations
        if ablation.mode == "reconstruction"
        for layer in ablation.layers
    ]
    logits = (len(ablations) + 1) * logits_per_pass
    required = cached + passes + 4 * (tokens * max(decoded_widths, default=0) + logits)
    refuse_beyond_memory(required, classifier.device, fix="choose fewer documents, layers or draws")
