"""All analyses of one or two runs: computed and stored, or read."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pyarrow as pa

from tegakari.analyses.circuit import circuit
from tegakari.analyses.classification import classification
from tegakari.analyses.cues import label_cues
from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.engine.stored_results import stored_or_computed
from tegakari.analyses.knockout.sweeps import over_labels
from tegakari.analyses.matching import match_features
from tegakari.analyses.sparsity import sparsity
from tegakari.analyses.specificity import specificity
from tegakari.analyses.study.differences import differences, same_tokens
from tegakari.analyses.study.rows import study_tables
from tegakari.analyses.study.settings import check_runs, compared_labels
from tegakari.analyses.variants import read_concepts, variants
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.errors import ModelError, NotFoundError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.specificity import SpecificitySettings
from tegakari.schemas.study import LabelCues, RunStudy, StudyResult, StudySettings
from tegakari.schemas.tables import Table
from tegakari.store import Run


def study(
    store: Path,
    runs: Sequence[Run],
    loader_of: Callable[[Run], ModelLoader],
    settings: StudySettings,
    *,
    progress: Progress = NoProgress(),
) -> StudyResult:
    """Compute all tables of the study and store them; a stored study is read, and so is each stored part of one.

    Args:
        store: the store's directory.
        runs: one or two.
        loader_of: returns the loader of a run's models, such as `model_loader`.
        settings: labels, layer, sizes and seeds.
        progress: has a stage per run and analysis.

    Raises:
        ConfigError: neither one run nor two.
        NotFoundError: a run lacks a label or layer of the settings, or the runs share no label.
        ModelNotHereError: models of a run are not on this machine.
    """
    check_runs(runs)
    return stored_or_computed(
        store,
        STUDY_ANALYSIS,
        runs,
        settings,
        lambda: _compute(store, runs, loader_of, settings, progress),
    )


def _compute(
    store: Path,
    runs: Sequence[Run],
    loader_of: Callable[[Run], ModelLoader],
    settings: StudySettings,
    progress: Progress,
) -> tuple[StudyResult, Mapping[Table, pa.Table]]:
    started = time.perf_counter()
    labels, left_out = compared_labels(runs, settings)
    run_studies = [_run_study(store, run, loader_of(run), labels, settings, progress) for run in runs]
    shared_documents = len(set.intersection(*(set(run.blocks.documents.id.to_pylist()) for run in runs)))
    result = StudyResult(
        settings=settings,
        labels=labels,
        left_out=left_out,
        shared_documents=shared_documents,
        same_tokens=same_tokens(runs),
        runs=run_studies,
        differences=differences(runs, run_studies, settings.seed) if len(runs) == 2 else [],
        matching=match_features(*runs) if len(runs) == 2 and shared_documents else None,
        seconds=round(time.perf_counter() - started, 3),
    )
    return result, study_tables(run_studies)


def _run_study(
    store: Path,
    run: Run,
    load_models: ModelLoader,
    labels: Sequence[str],
    settings: StudySettings,
    progress: Progress,
) -> RunStudy:
    circuit_result, no_circuit = None, None
    try:
        circuit_result = circuit(store, run, load_models, settings.circuit, progress=progress)
    except (NotFoundError, ModelError) as error:  # the report gives the reason; the other tables do not depend on it
        no_circuit = error.message
    knockout = KnockoutSettings(layer=settings.layer, k=settings.k, draws=settings.draws, seed=settings.seed)
    knockouts = over_labels(store, run, load_models, labels, knockout, progress=progress)
    return RunStudy(
        run=run.name,
        classification=classification(run),
        specificity=specificity(run, SpecificitySettings(seed=settings.seed), progress=progress),
        sparsity=sparsity(run, seed=settings.seed),
        knockouts=knockouts,
        variants=variants(store, run, load_models, read_concepts(), settings.ks, seed=settings.seed, progress=progress),
        cues=[cues for result in knockouts if (cues := _cues(run, result, settings.k))],
        circuit=circuit_result,
        no_circuit=no_circuit,
    )


def _cues(run: Run, knockout: KnockoutResult, k: int) -> LabelCues | None:
    """Cues of a knockout's label in its layer; None for a label without cues."""
    assert knockout.settings.label is not None
    try:
        return label_cues(run, knockout.settings.label, layer=knockout.settings.layer, k=k)
    except NotFoundError:
        return None
