"""All analyses of one or two runs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pyarrow as pa

from tegakari.analyses.circuit import circuit
from tegakari.analyses.circuit.run import circuit_rows
from tegakari.analyses.classification import classification
from tegakari.analyses.cues import label_cues
from tegakari.analyses.engine.run_models import ModelLoader
from tegakari.analyses.knockout.rows import rows_of
from tegakari.analyses.knockout.sweeps import table
from tegakari.analyses.matching import match_features
from tegakari.analyses.sparsity import sparsity
from tegakari.analyses.specificity import overall_specificity
from tegakari.analyses.study.differences import differences, same_tokens
from tegakari.analyses.variants import read_concepts, variants
from tegakari.analyses.variants.run import variants_rows
from tegakari.schemas.errors import ConfigError, ModelError, NotFoundError
from tegakari.schemas.knockout import KnockoutResult, KnockoutSettings
from tegakari.schemas.progress import NoProgress, Progress
from tegakari.schemas.study import LabelCues, RunStudy, StudyResult, StudySettings
from tegakari.schemas.tables import CIRCUIT, KNOCKOUTS, VARIANTS
from tegakari.store import Run
from tegakari.store.results import find_analysis, publish_analysis
from tegakari.store.versions import recorded_versions

KIND = "study"


def study(
    store: Path,
    runs: Sequence[Run],
    load: Callable[[Run], ModelLoader],
    settings: StudySettings,
    *,
    progress: Progress = NoProgress(),
) -> StudyResult:
    """Make all tables of the study and store them; a study that is stored is read, and so is each part of one.

    Args:
        store: the store's directory.
        runs: one or two.
        load: gives what loads the models of a run.
        settings: what is asked.
        progress: has a stage per run and analysis.

    Raises:
        ConfigError: neither one run nor two.
        NotFoundError: a label or layer that a run does not have, or no label that the runs share.
        ModelNotHereError: models are not on this machine.
    """
    if not 1 <= len(runs) <= 2:
        raise ConfigError(f"{len(runs)} runs are given", field="--runs", fix="give one run, or two to compare")
    manifests = [run.manifest for run in runs]
    stored = find_analysis(store, KIND, manifests, settings)
    if stored:
        return stored.result(StudyResult)
    started = time.perf_counter()
    shared = [label for label in runs[0].labels if all(label in run.labels for run in runs)]
    left_out = sorted({label for run in runs for label in run.labels} - set(shared))
    labels = shared if settings.labels is None else settings.labels
    if not labels:
        raise NotFoundError("the runs share no label", field="--runs", fix="choose runs of the same labels")
    made = [_run_study(store, run, load(run), labels, settings, progress) for run in runs]
    ids = [set(run.blocks.documents.id.to_pylist()) for run in runs]
    shared_documents = len(set.intersection(*ids))
    result = StudyResult(
        settings=settings,
        labels=list(labels),
        left_out=left_out,
        shared_documents=shared_documents,
        same_tokens=same_tokens(runs),
        runs=made,
        differences=differences(runs, made, settings.seed) if len(runs) == 2 else [],
        matching=match_features(*runs) if len(runs) == 2 and shared_documents else None,
        seconds=round(time.perf_counter() - started, 3),
    )
    knockouts = rows_of([row for each in made for row in each.knockouts])
    circuits = [circuit_rows(each.circuit) for each in made if each.circuit]
    publish_analysis(
        store,
        KIND,
        manifests,
        settings,
        result,
        {
            KNOCKOUTS: knockouts,
            CIRCUIT: pa.concat_tables([CIRCUIT.schema.empty_table(), *circuits]),
            VARIANTS: pa.concat_tables([variants_rows(each.variants) for each in made]),
        },
        seconds=result.seconds,
        versions=recorded_versions(),
    )
    return result


def _run_study(
    store: Path, run: Run, load: ModelLoader, labels: Sequence[str], settings: StudySettings, progress: Progress
) -> RunStudy:
    found_circuit, no_circuit = None, None
    try:
        found_circuit = circuit(store, run, load, settings.circuit, progress=progress)
    except (NotFoundError, ModelError) as error:  # said in its place: the other tables do not hang on it
        no_circuit = error.message
    asked = KnockoutSettings(layer=settings.layer, k=settings.k, draws=settings.draws, seed=settings.seed)
    knockouts = table(store, run, load, labels, asked, progress=progress)
    return RunStudy(
        run=run.name,
        classification=classification(run, seed=settings.seed),
        specificity=overall_specificity(run, seed=settings.seed),
        sparsity=sparsity(run, seed=settings.seed),
        knockouts=knockouts,
        variants=variants(store, run, load, read_concepts(), settings.ks, seed=settings.seed, progress=progress),
        cues=[found for knockout in knockouts if (found := _cues(run, knockout, settings.k))],
        circuit=found_circuit,
        no_circuit=no_circuit,
    )


def _cues(run: Run, knockout: KnockoutResult, k: int) -> LabelCues | None:
    assert knockout.settings.label is not None
    try:
        return label_cues(run, knockout.settings.label, layer=knockout.settings.layer, k=k)
    except NotFoundError:
        return None
