"""Written variants of concepts in a run: computed with its classifier and SAEs and stored, or read."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec
import numpy as np
import pyarrow as pa

from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.provenance import provenance_of
from tegakari.analyses.engine.stored_results import stored_or_computed
from tegakari.analyses.variants.concepts import check_script, check_tokens
from tegakari.analyses.variants.outcome import KindOfPairs, survival
from tegakari.analyses.variants.rows import variants_rows
from tegakari.analyses.variants.settings import variants_settings
from tegakari.analyses.variants.survival import pairs_across, pairs_within
from tegakari.schemas.analysis_kinds import VARIANTS_ANALYSIS
from tegakari.schemas.errors import StoreError
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.tables import VARIANTS, Table
from tegakari.schemas.variants import SLOT, Concept, VariantsResult, VariantsSettings
from tegakari.store import Run
from tegakari.store.results import stored_analyses


def variants(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    concepts: Sequence[Concept],
    ks: Sequence[int] | None = None,
    *,
    unrelated: int = 1000,
    seed: int = 0,
    progress: Progress = NoProgress(),
) -> VariantsResult:
    """Measure the share of a form's features that remains without those of another form, and store it.

    Args:
        store: the store's directory.
        run: published.
        load_models: called if the result is not stored.
        concepts: with their forms; from `read_concepts`.
        ks: sizes of the feature sets: the features of a layer with the largest activation anywhere in a sentence;
            None: 20, 50 and 100, as far as every layer has as many.
        unrelated: pairs of forms of different concepts, for comparison.
        seed: of these pairs and of the intervals.
        progress: counts sentences.

    Raises:
        ConfigError: a form has no token, the tokenizer does not know the script of the forms, or a layer has fewer than
            k features.
        ModelNotHereError: the run's models are not on this machine.
    """
    settings = variants_settings(run, concepts, ks, unrelated, seed)
    return stored_or_computed(
        store,
        VARIANTS_ANALYSIS,
        [run],
        settings,
        lambda: _part_of_stored(store, run, settings) or _compute(run, load_models, concepts, settings, progress),
    )


def _part_of_stored(
    store: Path, run: Run, settings: VariantsSettings
) -> tuple[VariantsResult, Mapping[Table, pa.Table]] | None:
    """The rows of a stored result with further sizes: those of one size do not depend on the others."""
    for analysis in stored_analyses(store, kind=VARIANTS_ANALYSIS, run=run.manifest):
        try:
            stored = analysis.settings(VARIANTS_ANALYSIS)
            if set(settings.ks) < set(stored.ks) and msgspec.structs.replace(stored, ks=settings.ks) == settings:
                result = analysis.result(VARIANTS_ANALYSIS)
                rows = [row for row in result.rows if row.k in settings.ks]
                part = msgspec.structs.replace(result, settings=settings, rows=rows)
                return part, {VARIANTS: variants_rows(part)}
        except StoreError:  # a damaged result is computed again
            continue
    return None


def _compute(
    run: Run, load_models: ModelLoader, concepts: Sequence[Concept], settings: VariantsSettings, progress: Progress
) -> tuple[VariantsResult, Mapping[Table, pa.Table]]:
    from tegakari.analyses.variants.forward import strongest_features  # loads torch, which stored results need not

    started = time.perf_counter()
    models = load_models()
    check_tokens(models.classifier, concepts)
    check_script(models.classifier, concepts)
    texts, first_sentence, first_frame = _sentences(concepts)
    progress.stage(f"{run.name}: variants", len(texts))
    strongest = strongest_features(models, texts, max(settings.ks), progress)
    unrelated = pairs_across(concepts, settings.unrelated, settings.seed)
    kinds = [
        KindOfPairs("sentences", pairs_within(concepts, first_sentence), len(concepts)),
        KindOfPairs("frames", pairs_within(concepts, first_frame), len(concepts)),
        KindOfPairs("unrelated", unrelated, len(unrelated.group)),
    ]
    layers = run.manifest.saes.layers
    result = VariantsResult(
        run=run.name,
        settings=settings,
        concepts=[concept.concept for concept in concepts],
        forms=sum(len(concept.forms) for concept in concepts),
        rows=[survival(pairs, k, strongest, layers, settings.seed) for pairs in kinds for k in settings.ks],
        seconds=round(time.perf_counter() - started, 3),
        provenance=provenance_of(run, models),
    )
    return result, {VARIANTS: variants_rows(result)}


class _Sentences(NamedTuple):
    texts: list[str]
    """sentences of all forms, by concept, then all forms in the frames; `pairs_across` relies on this order"""
    first_sentence: list[int | None]
    """number of the sentence of each concept's first form"""
    first_frame: list[int | None]
    """number of the frame with each concept's first form; None for a concept without a frame"""


def _sentences(concepts: Sequence[Concept]) -> _Sentences:
    texts = [form.sentence for concept in concepts for form in concept.forms]
    starts = np.cumsum([0, *(len(concept.forms) for concept in concepts)]).tolist()
    first_frame: list[int | None] = []
    for concept in concepts:
        first_frame.append(len(texts) if concept.frame else None)
        if concept.frame:
            texts += [concept.frame.replace(SLOT, form.form) for form in concept.forms]
    return _Sentences(texts, starts[:-1], first_frame)
