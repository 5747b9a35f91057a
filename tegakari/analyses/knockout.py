"""What breaks without a label's features: they are taken out of a layer, and the classifier reads the documents again.

Definitions: docs/design.md, Knockout; the study, section 4.3.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rich.progress import Progress

from tegakari.analyses.intervals import mean_interval
from tegakari.analyses.run_models import RunModels
from tegakari.analyses.texts import BATCH_TOKENS
from tegakari.models.interventions import Edit
from tegakari.models.prefix import run_prefix
from tegakari.models.rerun import rerun
from tegakari.models.tokens import bucketed
from tegakari.schemas.errors import NotFoundError
from tegakari.schemas.knockout import Control, Destination, KnockoutResult, KnockoutSettings, RemovedFeature
from tegakari.store import Run, queries
from tegakari.store.analyses import find_analysis, publish_analysis

KIND = "knockout"


def stored_knockout(store: Path, run: Run, settings: KnockoutSettings) -> KnockoutResult | None:
    """The answer, if the same was asked before."""
    found = find_analysis(store, KIND, [run.manifest], settings)
    return found.result(KnockoutResult) if found else None


def knock_out(
    store: Path, run: Run, models: RunModels, settings: KnockoutSettings, *, progress: Progress | None = None
) -> KnockoutResult:
    """Take features out of all documents of a label, and store what came of it.

    Raises:
        NotFoundError: no such label or layer, a label without documents, or fewer than k features with a d.
        DiskFullError: no space to store the answer.
    """
    started = time.perf_counter()
    removed = _strongest(run, settings)
    label_id = run.label_id(settings.label)
    texts = [
        row["text"]
        for row in run.rows("SELECT text FROM documents WHERE label_id = $label ORDER BY document", {"label": label_id})
    ]
    if not texts:
        raise NotFoundError(
            f"run {run.name!r} has no documents of label {settings.label!r}", field="label", fix="choose another label"
        )
    features = tuple(feature.feature for feature in removed)
    sets = [features, *_random_sets(run, settings, features)]
    if settings.mode == "reconstruction":
        sets.append(())
    before, after = _predictions(models, texts, settings, sets, progress)
    result = _result(run, settings, removed, label_id, before, after)
    publish_analysis(
        store,
        KIND,
        [run.manifest],
        settings,
        result,
        {},
        seconds=round(time.perf_counter() - started, 3),
        versions=run.manifest.versions,
    )
    return result


def _strongest(run: Run, settings: KnockoutSettings) -> list[RemovedFeature]:
    if settings.k == 0:
        queries.check_layer(run, settings.layer)
        return []
    page = queries.features_of_label(
        run, settings.label, layer=settings.layer, pooling=settings.pooling, limit=settings.k
    )
    if len(page.items) < settings.k:
        raise NotFoundError(
            f"layer {settings.layer} has {len(page.items)} features with a d for {settings.label!r}, not {settings.k}",
            field="k",
            fix=f"ask for at most {len(page.items)}",
        )
    return [RemovedFeature(layer=row.layer, feature=row.feature, d=row.d) for row in page.items]


def _random_sets(run: Run, settings: KnockoutSettings, taken: Sequence[int]) -> list[tuple[int, ...]]:
    if not taken:
        return []
    where = run.hot.places.slice_of(settings.layer)
    active = np.flatnonzero(np.asarray(run.hot.features["active_positions"][where]) > 0)
    pool = np.setdiff1d(active, taken)
    if len(pool) < len(taken):
        raise NotFoundError(
            f"layer {settings.layer} has {len(pool)} other active features, a control of {len(taken)} cannot be drawn",
            field="k",
            fix="lower k, or ask for no draws",
        )
    draw = np.random.default_rng(settings.seed)
    return [tuple(sorted(draw.choice(pool, len(taken), replace=False).tolist())) for _ in range(settings.draws)]


def _predictions(
    models: RunModels,
    texts: Sequence[str],
    settings: KnockoutSettings,
    sets: Sequence[tuple[int, ...]],
    progress: Progress | None,
) -> tuple[np.ndarray, np.ndarray]:
    """Predicted label of each document as it is, [D], and without each set of features, [sets, D]."""
    classifier = models.classifier
    documents = classifier.tokenize(texts)
    before, after = np.empty(len(texts), np.int64), np.empty((len(sets), len(texts)), np.int64)
    task = progress.add_task("knocking out", total=len(texts)) if progress else None
    for members in bucketed([len(document.input_ids) for document in documents], BATCH_TOKENS):
        batch = classifier.batch([documents[number] for number in members])
        above = settings.layer if settings.positions == "last" else None
        prefix = run_prefix(classifier, batch, [settings.layer], keys_above=above)
        before[members] = prefix.logits.argmax(1).cpu().numpy()
        edits = [[Edit(settings.layer, features, settings.mode, settings.positions)] for features in sets]
        after[:, members] = rerun(classifier, models.saes, prefix, edits).argmax(2).cpu().numpy()
        if progress and task is not None:
            progress.advance(task, len(members))
    return before, after


def _result(
    run: Run,
    settings: KnockoutSettings,
    removed: list[RemovedFeature],
    label_id: int,
    before: np.ndarray,
    after: np.ndarray,
) -> KnockoutResult:
    right, still = before == label_id, after == label_id
    recall, recalls = right.mean(), still.mean(1)
    low, high = (100 * end for end in mean_interval(still[0].astype(float) - right, settings.seed))
    control = None
    draws = recalls[1 : 1 + settings.draws] if removed else recalls[:0]
    if len(draws):
        deltas = 100 * (draws - recall)
        control = Control(
            recalls=draws.tolist(),
            delta_mean=float(deltas.mean()),
            delta_sd=float(deltas.std(ddof=1)) if len(deltas) > 1 else 0.0,
        )
    lost = Counter(after[0][right & ~still[0]].tolist())
    return KnockoutResult(
        run=run.name,
        settings=settings,
        features=removed,
        documents=len(before),
        recall_before=float(recall),
        recall_after=float(recalls[0]),
        delta=float(100 * (recalls[0] - recall)),
        delta_low=low,
        delta_high=high,
        control=control,
        recall_reconstructed=float(recalls[-1]) if settings.mode == "reconstruction" else None,
        lost=[
            Destination(label=run.labels[label], documents=count)
            for label, count in sorted(lost.items(), key=lambda item: (-item[1], item[0]))
        ],
        gained=int((still[0] & ~right).sum()),
    )
