"""The study of two small runs: its tables, its differences, and its report in a browser."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score

from tegakari.analyses.circuit import circuit
from tegakari.analyses.cues import label_cues
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.knockout import sweeps
from tegakari.analyses.study import study
from tegakari.analyses.study.csv_tables import write_csv_tables
from tegakari.analyses.study.differences import Groups, differences, same_tokens
from tegakari.analyses.study.render import html, markdown
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.schemas.tables import CIRCUIT, KNOCKOUTS
from tegakari.store import Run, Store
from tegakari.store.results import find_analysis


def test_every_part_equals_its_analysis_alone(
    two_runs: tuple[Path, list[Run]], result: StudyResult, settings: StudySettings
):
    store, runs = two_runs
    for run, run_study in zip(runs, result.runs, strict=True):

        def never() -> RunModels:
            raise AssertionError("it is stored")

        knockout = KnockoutSettings(k=4, draws=2)
        assert run_study.knockouts == sweeps.over_labels(store, run, never, run.labels, knockout)
        assert run_study.circuit == circuit(store, run, never, settings.circuit)
        layers = [row.settings.layer for row in run_study.knockouts]
        assert run_study.cues == [
            label_cues(run, label, layer=layer, k=4) for label, layer in zip(run.labels, layers, strict=True)
        ]
    analysis = find_analysis(store, STUDY_ANALYSIS, [run.manifest for run in runs], result.settings)
    assert analysis
    assert analysis.table(KNOCKOUTS).num_rows == 2 * len(result.labels)
    assert set(analysis.table(CIRCUIT)["run"].to_pylist()) == {"small", "other"}


def test_tables_are_written_as_csv(two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path):
    store, runs = two_runs
    write_csv_tables(store, runs, result, tmp_path / "csv")
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "csv").iterdir()}
    assert lines.keys() == {"knockouts.csv", "circuit.csv", "variants.csv", "differences.csv"}
    assert len(lines["differences.csv"]) == 1 + len(result.differences)
    assert len(lines["knockouts.csv"]) == 1 + 2 * len(result.labels)
    with pytest.raises(NotFoundError):
        write_csv_tables(store, runs[:1], result, tmp_path / "csv")


def test_runs_with_different_tokens_are_reported(
    two_runs: tuple[Path, list[Run]], result: StudyResult, monkeypatch: pytest.MonkeyPatch
):
    assert result.same_tokens
    store, (a, _) = two_runs
    b = Store(store).run("other")
    documents = b.blocks.documents
    changed = np.array(documents.token_ids)
    changed[5] += 1
    monkeypatch.setattr(b.blocks, "documents", documents._replace(token_ids=changed))
    assert not same_tokens([a, b])
    assert "different tokens" in markdown(msgspec.structs.replace(result, same_tokens=False), [a, b])


def test_a_run_does_not_differ_from_its_copy(result: StudyResult):
    assert result.shared_documents > 0
    assert result.left_out == []
    assert len(result.differences) == 7 + 4
    assert result.matching
    assert all(row.only == 0 for row in result.matching.only)
    for row in result.differences:
        assert row.difference.value == 0, row.figure
        assert row.difference.low <= 0 <= row.difference.high


def test_differences_agree_with_changed_predictions_and_knockouts(
    two_runs: tuple[Path, list[Run]], result: StudyResult, monkeypatch: pytest.MonkeyPatch
):
    """Predictions and knockouts of the second run are made worse by known amounts."""
    store, (a, _) = two_runs
    b = Store(store).run("other")
    documents = b.blocks.documents
    expected = np.asarray(documents.label_id)
    worse = np.where(np.arange(len(expected)) % 2 == 0, (expected + 1) % len(b.labels), expected).astype(np.int32)
    monkeypatch.setattr(b.blocks, "documents", documents._replace(predicted_id=worse))
    second = msgspec.structs.replace(
        result.runs[1],
        knockouts=[msgspec.structs.replace(row, delta=row.delta - 10) for row in result.runs[1].knockouts],
    )
    by_figure = {row.figure: row for row in differences([a, b], [result.runs[0], second], Groups(1, 1), 0)}
    labels = sorted(set(expected.tolist()))
    predicted = np.asarray(a.blocks.documents.predicted_id)
    scores = [f1_score(expected, labelled, average="macro", labels=labels) for labelled in (predicted, worse)]
    assert (by_figure["macro-F1"].a, by_figure["macro-F1"].b) == pytest.approx(scores)
    assert by_figure["points lost in a knockout"].difference.value == pytest.approx(-10)
    assert by_figure["points lost in a knockout"].difference.high == pytest.approx(-10)
    assert by_figure["unique tokens of a label"].difference.value == 0


def test_one_run_with_chosen_labels_and_layer(two_runs: tuple[Path, list[Run]], settings: StudySettings):
    store, runs = two_runs
    changed = msgspec.structs.replace(settings, labels=[runs[0].labels[1]], layer=1)
    loader_of = lambda run: lambda: load_run_models(run, "cpu")  # noqa: E731
    one_run = study(store, runs[:1], loader_of, changed)
    assert one_run.differences == []
    assert [row.settings.layer for row in one_run.runs[0].knockouts] == [1]
    with pytest.raises(NotFoundError, match="no label"):
        study(store, runs[:1], loader_of, msgspec.structs.replace(settings, labels=["none"]))
    with pytest.raises(ConfigError, match="3 runs"):
        study(store, [*runs, runs[0]], loader_of, settings)
    with pytest.raises(ConfigError, match="spread of one run"):
        study(store, runs, loader_of, settings, against=runs[:1])
    with pytest.raises(ConfigError, match="'small' is given twice"):
        study(store, runs, loader_of, settings, against=[runs[0], runs[0]])


def test_the_report_gives_the_reason_for_a_missing_circuit(two_runs: tuple[Path, list[Run]], settings: StudySettings):
    store, runs = two_runs
    changed = msgspec.structs.replace(settings, circuit=CircuitSettings(min_cosine=1.0))
    one_run = study(store, runs[:1], lambda run: lambda: load_run_models(run, "cpu"), changed)
    assert one_run.runs[0].circuit is None
    assert one_run.runs[0].no_circuit
    assert one_run.runs[0].no_circuit in html(one_run, runs[:1]).replace("&gt;", ">").replace("&#39;", "'")
