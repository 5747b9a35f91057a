"""Written variants through a run's classifier and SAEs."""

from __future__ import annotations

import time
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from tegakari.analyses.engine.batches import batches, tokenized
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.run_models import ModelLoader, RunModels
from tegakari.analyses.statistics import mean_interval
from tegakari.analyses.variants.concepts import check_tokens, fingerprint
from tegakari.analyses.variants.survival import Pairs, group_means, pairs_across, pairs_within, survivals
from tegakari.kernels import encode
from tegakari.schemas.analysis import Interval
from tegakari.schemas.errors import ConfigError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import VARIANTS
from tegakari.schemas.variants import (
    SLOT,
    Concept,
    LayerSurvival,
    Survival,
    VariantKind,
    VariantsResult,
    VariantsSettings,
)
from tegakari.store import Run
from tegakari.store.results import find_analysis, publish_analysis
from tegakari.store.versions import recorded_versions

KIND = "variants"

KS = (20, 50, 100)
"""The study's."""


def variants(
    store: Path,
    run: Run,
    load: ModelLoader,
    concepts: Sequence[Concept],
    ks: Sequence[int] = KS,
    *,
    unrelated: int = 1000,
    seed: int = 0,
    progress: Progress = NoProgress(),
) -> VariantsResult:
    """Measure how much of a form's features remains without those of another form, and store it.

    Args:
        store: the store's directory.
        run: published.
        load: gives the run's models, if they are needed.
        concepts: with their forms; from `read_concepts`.
        ks: sizes of the feature sets: the features of a layer with the largest activation anywhere in a sentence.
        unrelated: pairs of forms of different concepts, for comparison.
        seed: of these pairs and of the intervals.
        progress: counts sentences.

    Raises:
        ConfigError: a form without a token, or k larger than a layer's number of features.
        ModelNotHereError: the models are not on this machine.
    """
    settings = VariantsSettings(
        concepts_sha256=fingerprint(concepts), ks=sorted(set(ks)), unrelated=unrelated, seed=seed
    )
    stored = find_analysis(store, KIND, [run.manifest], settings)
    if stored:
        return stored.result(VariantsResult)
    if max(ks) > min(run.manifest.saes.widths):
        raise ConfigError(f"a layer has {min(run.manifest.saes.widths)} features, not {max(ks)}", field="-k")
    started = time.perf_counter()
    models = load()
    check_tokens(models.classifier, concepts)
    texts, first = _texts(concepts)
    progress.stage(f"{run.name}: variants", len(texts))
    strongest = _strongest(models, texts, max(ks), progress)
    own: list[int | None] = [rows[0] for rows in first]
    framed = [rows[1] for rows in first]
    kinds: list[tuple[VariantKind, Pairs, int]] = [
        ("sentences", pairs_within(concepts, own), len(concepts)),
        ("frames", pairs_within(concepts, framed), len(concepts)),
    ]
    across = pairs_across(concepts, unrelated, seed)
    kinds.append(("unrelated", across, len(across.group)))
    layers = run.manifest.saes.layers
    result = VariantsResult(
        run=run.name,
        settings=settings,
        concepts=[concept.concept for concept in concepts],
        forms=sum(len(concept.forms) for concept in concepts),
        rows=[
            _row(kind, k, pairs, groups, strongest, layers, seed) for kind, pairs, groups in kinds for k in settings.ks
        ],
        seconds=round(time.perf_counter() - started, 3),
        provenance=provenance_of(run, models),
    )
    publish_analysis(
        store,
        KIND,
        [run.manifest],
        settings,
        result,
        {VARIANTS: variants_rows(result)},
        seconds=result.seconds,
        versions=recorded_versions(),
    )
    return result


def _texts(concepts: Sequence[Concept]) -> tuple[list[str], list[tuple[int, int | None]]]:
    """Sentences of all forms, then the frames; and where each concept's begin. Unrelated pairs count on this order."""
    texts = [each.sentence for concept in concepts for each in concept.forms]
    starts = np.cumsum([0, *(len(concept.forms) for concept in concepts)]).tolist()
    first: list[tuple[int, int | None]] = []
    for concept, start in zip(concepts, starts, strict=False):
        first.append((start, len(texts) if concept.frame else None))
        if concept.frame:
            texts += [concept.frame.replace(SLOT, each.form) for each in concept.forms]
    return texts, first


def _strongest(models: RunModels, texts: Sequence[str], n: int, progress: Progress) -> np.ndarray:
    """The n features with the largest activation at any position, int64 [layers, texts, n]; -1: no more active."""
    layers = sorted(models.saes)
    found = np.full((len(layers), len(texts), n), -1, np.int64)
    for members, batch in batches(models.classifier, tokenized(models.classifier, texts)):

        def on_residual(
            layer: int, residual: Tensor, members: list[int] = members, offsets: Tensor = batch.offsets
        ) -> None:
            encoded = encode(residual, models.encoder(layer), offsets, rows="none")
            encoded.check()
            pooled = encoded.pooled.max
            order = torch.sort(pooled, dim=1, descending=True, stable=True)  # ties: the lower feature first
            features = torch.where(order.values > 0, order.indices, -1)[:, :n]
            found[layers.index(layer), members] = features.cpu().numpy()

        models.classifier.run(batch, on_residual, layers=layers)
        progress.advance(len(members))
    return found


def _row(
    kind: VariantKind, k: int, pairs: Pairs, groups: int, strongest: np.ndarray, layers: Sequence[int], seed: int
) -> Survival:
    values = np.stack([survivals(of_layer, pairs, k) for of_layer in strongest])  # [layers, P]
    by_group = np.stack([group_means(of_layer, pairs, groups) for of_layer in values])  # [layers, groups]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a group or layer without any value has the mean NaN
        of_groups, of_layers = np.nanmean(by_group, 0), np.nanmean(by_group, 1)
    there = of_groups[~np.isnan(of_groups)]
    interval = None
    if len(there):
        low, high = mean_interval(there, seed)
        interval = Interval(value=float(there.mean()), low=low, high=high)
    used = np.unique(np.concatenate([pairs.excluded, pairs.kept]))
    return Survival(
        kind=kind,
        k=k,
        survival=interval,
        layers=[
            LayerSurvival(layer=layer, survival=_or_none(value))
            for layer, value in zip(layers, of_layers.tolist(), strict=True)
        ],
        pairs=len(pairs.kept),
        empty=int(np.isnan(values).sum()),
        small=int((strongest[:, used, k - 1] < 0).sum()) if len(used) else 0,
        of_concepts=[_or_none(value) for value in of_groups.tolist()],
    )


def _or_none(value: float) -> float | None:
    return None if np.isnan(value) else value


def variants_rows(result: VariantsResult) -> pa.Table:
    """The table VARIANTS."""
    rows = [
        {"run": result.run, "kind": row.kind, "k": row.k, "layer": each.layer, "survival": each.survival}
        for row in result.rows
        for each in row.layers
    ]
    return pa.Table.from_pylist(rows, schema=VARIANTS.schema)
