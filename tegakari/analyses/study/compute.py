"""All analyses of one run, of two, or of two groups of replicates: computed and stored, or read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa

from tegakari.analyses.circuit import circuit
from tegakari.analyses.classification import classification
from tegakari.analyses.cues import feature_cues, mean_cues
from tegakari.analyses.engine.model_loader import ModelLoader
from tegakari.analyses.engine.stored_results import stored_or_computed
from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.analyses.knockout.sae_quality import sae_qualities
from tegakari.analyses.knockout.sweeps import LabelKnockouts, over_labels
from tegakari.analyses.matching import match_features
from tegakari.analyses.sparsity import sparsity
from tegakari.analyses.specificity import specificity
from tegakari.analyses.study.differences import differences, same_tokens
from tegakari.analyses.study.limits import limits_of
from tegakari.analyses.study.rows import study_tables
from tegakari.analyses.study.settings import (
    check_parts,
    compared_labels,
    complete_settings,
    groups_of,
    knockout_settings,
)
from tegakari.analyses.variants import read_concepts, variants
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import ConfigError, MemoryShortError, ModelError, NotFoundError, QueryError
from tegakari.schemas.knockout import PER_LABEL, KnockoutResult
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.schemas.study import LabelCues, RunStudy, StudyResult, StudySettings
from tegakari.schemas.tables import Table
from tegakari.schemas.variants import Concept
from tegakari.store import Run

SKIPPED = "skipped, as the settings say"


def study(
    store: Path,
    runs: Sequence[Run],
    loader_of: Callable[[Run], ModelLoader],
    settings: StudySettings,
    *,
    against: Sequence[Run] = (),
    concepts: Sequence[Concept] | None = None,
    progress: Progress = NoProgress(),
) -> StudyResult:
    """Compute all tables of the study and store them; a stored study is read, and so is each stored part of one.

    Args:
        store: the store's directory.
        runs: one, two to compare, or with `against` the replicates of one model.
        loader_of: returns the loader of a run's models, such as `model_loader`.
        settings: labels, layer, sizes, seeds, and the parts to skip.
        against: the replicates of another model, which is compared.
        concepts: of written variants; default: the package's own.
        progress: has a stage per run and analysis.

    Raises:
        ConfigError: neither one run nor two without `against`, a side without replicates, or layers with too few
            features for written variants.
        NotFoundError: a run lacks a label or layer of the settings, or features for a knockout; or the runs share no
            label.
        QueryError: the pooling is not one of d, or not that of a run with a holdout.
        ModelNotHereError: models of a run are not on this machine.
    """
    concepts = read_concepts() if concepts is None else concepts
    settings = complete_settings(settings, runs, against, concepts)
    runs = [*runs, *against]
    return stored_or_computed(
        store,
        STUDY_ANALYSIS,
        runs,
        settings,
        lambda: _compute(store, runs, loader_of, settings, concepts, progress),
    )


def _compute(
    store: Path,
    runs: Sequence[Run],
    loader_of: Callable[[Run], ModelLoader],
    settings: StudySettings,
    concepts: Sequence[Concept],
    progress: Progress,
) -> tuple[StudyResult, Mapping[Table, pa.Table]]:
    started = time.perf_counter()
    labels, left_out = compared_labels(runs, settings)
    check_parts(runs, labels, settings)
    run_studies = [_run_study(store, run, loader_of(run), labels, settings, concepts, progress) for run in runs]
    shared_documents = len(set.intersection(*(set(run.blocks.documents.id.to_pylist()) for run in runs)))
    groups = groups_of(settings, runs)
    sides = [runs[: groups.a], runs[groups.a :]] if groups else [runs]
    matched = shared_documents > 0 and "matching" not in settings.skip
    result = StudyResult(
        settings=settings,
        groups=[[run.name for run in side] for side in sides],
        limits=[],
        labels=labels,
        left_out=left_out,
        shared_documents=shared_documents,
        same_tokens=same_tokens(runs),
        runs=run_studies,
        differences=differences(runs, run_studies, groups, settings.seed) if groups else [],
        matching=match_features(sides[0][0], sides[1][0]) if matched and groups else None,
        baselines=[match_features(*side[:2]) for side in sides if matched and len(side) > 1],
        seconds=round(time.perf_counter() - started, 3),
    )
    return msgspec.structs.replace(result, limits=limits_of(result)), study_tables(run_studies, result.differences)


def _run_study(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: StudySettings,
    concepts: Sequence[Concept],
    progress: Progress,
) -> RunStudy:
    circuit_result, no_circuit = None, SKIPPED
    if "circuit" not in settings.skip:
        try:
            circuit_result, no_circuit = circuit(store, run, load_models, settings.circuit, progress=progress), None
        except (
            NotFoundError,
            QueryError,
            ModelError,
            MemoryShortError,
        ) as error:  # the other tables do not depend on it
            no_circuit = error.message
    variants_result, no_variants = None, SKIPPED
    if "variants" not in settings.skip:
        try:
            variants_result, no_variants = (
                variants(store, run, load_models, concepts, settings.ks or (), seed=settings.seed, progress=progress),
                None,
            )
        except ConfigError as error:
            no_variants = error.message
    knockouts = LabelKnockouts([], None)
    if "knockouts" not in settings.skip:
        knockout = knockout_settings(run, settings)
        per_label = settings.layer == PER_LABEL
        knockouts = over_labels(store, run, load_models, labels, knockout, per_label=per_label, progress=progress)
    label_documents = np.bincount(np.asarray(run.blocks.documents.label_id), minlength=len(run.labels))
    return RunStudy(
        run=run.name,
        classification=classification(run),
        specificity=specificity(run, SpecificitySettings(seed=settings.seed), progress=progress),
        sparsity=sparsity(run, seed=settings.seed),
        saes=list(sae_qualities(run).values()),
        documents=run.manifest.corpus.documents,
        truncated=run.rows("SELECT count(*) AS n FROM documents WHERE truncated")[0]["n"],
        fewest_documents=int(label_documents.min()),
        largest_share=float(label_documents.max() / label_documents.sum()),
        head=run.manifest.classifier.head,
        knockouts=knockouts.results,
        knockout_mean=knockout_mean(knockouts.results),
        layer_choice=knockouts.choice,
        variants=variants_result,
        no_variants=no_variants,
        cues=[cues for result in knockouts.results if (cues := _cues(run, result))],
        circuit=circuit_result,
        no_circuit=no_circuit,
    )


def _cues(run: Run, knockout: KnockoutResult) -> LabelCues | None:
    """Cues of a knockout's features; None if none of them is ever active."""
    assert knockout.settings.label is not None
    layer = knockout.settings.layer
    features = [
        cues
        for row in knockout.features
        if (cues := feature_cues(run, row.layer, row.feature, d=row.cohens_d)) is not None
    ]
    return mean_cues(run, knockout.settings.label, layer, features) if features else None
