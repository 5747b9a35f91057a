"""The study of two small runs: its tables, its differences, and its report in a browser."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from scipy import stats
from sklearn.metrics import f1_score

from tegakari.analyses.circuit import circuit
from tegakari.analyses.cues import feature_cues, mean_cues
from tegakari.analyses.engine.run_models import RunModels, load_run_models
from tegakari.analyses.knockout import sweeps
from tegakari.analyses.knockout.mean import knockout_mean
from tegakari.analyses.study import study
from tegakari.analyses.study.csv_tables import write_csv_tables
from tegakari.analyses.study.differences import Groups, Means, Words, difference_of_means, differences, same_tokens
from tegakari.analyses.study.render import html, markdown
from tegakari.schemas.analysis import Interval
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.study import RunStudy, StudyResult, StudySettings
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

        knockout = KnockoutSettings(k=4, draws=2, holdout=True)
        knockouts = sweeps.over_labels(store, run, never, run.labels, knockout)
        assert (run_study.knockouts, run_study.layer_choice) == knockouts
        assert run_study.knockout_mean == knockout_mean(knockouts.results)
        assert run_study.circuit == circuit(store, run, never, settings.circuit)
        for cues, row in zip(run_study.cues, knockouts.results, strict=True):
            features = [feature_cues(run, one.layer, one.feature, d=one.cohens_d) for one in row.features]
            active = [of_feature for of_feature in features if of_feature]
            assert cues == mean_cues(run, row.settings.label or "", row.settings.layer, active)
    analysis = find_analysis(store, STUDY_ANALYSIS, [run.manifest for run in runs], result.settings)
    assert analysis
    assert analysis.table(KNOCKOUTS).num_rows == 2 * len(result.labels)
    assert set(analysis.table(CIRCUIT)["run"].to_pylist()) == {"small", "other"}


def test_tables_are_written_as_csv(two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path):
    store, runs = two_runs
    write_csv_tables(store, runs, result, tmp_path / "csv")
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "csv").glob("*.csv")}
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
    assert len(result.differences) == 6 + 4  # random SAEs: no knockout is beyond its control
    assert not any("points" in row.figure for row in result.differences)
    assert result.matching
    assert all(row.only == 0 for row in result.matching.only)
    for row in result.differences:
        assert row.difference.value == 0, row.figure
        assert row.difference.low <= 0 <= row.difference.high


def with_effects(run_study: RunStudy, points: float) -> RunStudy:
    """The study with knockouts of such an effect, but for the first label, which is not beyond its control."""
    effects = [-25.0, *[points] * (len(run_study.knockouts) - 1)]
    knockouts = [
        msgspec.structs.replace(
            row,
            delta=effect,
            net=Interval(value=effect, low=effect - 28, high=effect + 28),
            beyond_control=effect + 28 < 0,
        )
        for row, effect in zip(run_study.knockouts, effects, strict=True)
    ]
    return msgspec.structs.replace(run_study, knockouts=knockouts, knockout_mean=knockout_mean(knockouts))


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
    first, second = (with_effects(run_study, -30 - 10 * number) for number, run_study in enumerate(result.runs))
    by_figure = {row.figure: row for row in differences([a, b], [first, second], Groups(1, 1), 0)}
    labels = sorted(set(expected.tolist()))
    predicted = np.asarray(a.blocks.documents.predicted_id)
    scores = [f1_score(expected, labelled, average="macro", labels=labels) for labelled in (predicted, worse)]
    assert (by_figure["macro-F1"].a, by_figure["macro-F1"].b) == pytest.approx(scores)
    points = by_figure["points lost in a knockout"]
    assert (points.a, points.b, points.n) == (30, 40, len(result.labels) - 1)
    assert points.difference.low == pytest.approx(10)
    net = by_figure["points lost in a knockout, net of its control"]
    assert net.n == len(result.labels)
    assert net.difference.value == pytest.approx(10 * (net.n - 1) / net.n)
    no_mean = msgspec.structs.replace(second, knockout_mean=result.runs[1].knockout_mean)
    assert not any("points" in row.figure for row in differences([a, b], [first, no_mean], Groups(1, 1), 0))
    assert by_figure["unique tokens of a label"].difference.value == 0


def test_the_order_of_runs_swaps_sides_and_changes_nothing_else(
    two_runs: tuple[Path, list[Run]], result: StudyResult, monkeypatch: pytest.MonkeyPatch
):
    store, (a, _) = two_runs
    b = Store(store).run("other")
    documents = b.blocks.documents
    worse = np.asarray(documents.label_id).copy()
    worse[::3] = (worse[::3] + 1) % len(b.labels)
    monkeypatch.setattr(b.blocks, "documents", documents._replace(predicted_id=worse.astype(np.int32)))
    first, second = (with_effects(run_study, -30 - 10 * number) for number, run_study in enumerate(result.runs))
    rows = differences([a, b], [first, second], Groups(1, 1), 0)
    swapped = differences([b, a], [second, first], Groups(1, 1), 0)
    assert [row.name for row in rows] == [row.name for row in swapped]
    for row, other in zip(rows, swapped, strict=True):
        assert (row.a, row.b, row.n, row.over) == pytest.approx((other.b, other.a, other.n, other.over)), row.name
        difference, opposite = row.difference, other.difference
        assert difference.value == pytest.approx(-opposite.value), row.name
        assert (difference.low, difference.high) == pytest.approx((-opposite.high, -opposite.low)), row.name
    assert any(row.difference.value for row in rows)


def test_figures_have_names_for_programs(result: StudyResult):
    names = [row.name for row in result.differences]
    assert len(set(names)) == len(names)
    assert all(name.isidentifier() and name == name.lower() for name in names), names
    assert {"macro_f1", "mean_variety", "active_features", "top20_ratio", "top_token_share", "unique_tokens"} <= set(
        names
    )
    assert {name for name in names if name.startswith("survival")} >= {"survival_sentences_4", "survival_sentences_9"}


def test_differences_of_few_items_have_students_interval():
    values = np.random.default_rng(0).normal([[0.0], [1.0]], size=(2, 4))
    row = difference_of_means(Means(Words("any", "any figure"), "labels", values), Groups(1, 1), 0)
    expected = stats.ttest_rel(values[1], values[0]).confidence_interval()
    assert (row.difference.low, row.difference.high) == pytest.approx((expected.low, expected.high))
    assert (row.a, row.b, row.n) == (*values.mean(1), 4)


def test_the_difference_of_label_variety_is_as_uncertain_as_both_varieties(
    two_runs: tuple[Path, list[Run]], result: StudyResult
):
    row = next(row for row in result.differences if row.figure == "mean label variety")
    varieties = [run_study.specificity.mean_variety for run_study in result.runs]
    assert (row.a, row.b) == tuple(variety.value for variety in varieties)
    squares = [(variety.high - variety.value) ** 2 for variety in varieties]
    assert row.difference.high - row.difference.value == pytest.approx(sum(squares) ** 0.5)
    assert (row.over, row.n) == ("documents of each run", sum(two_runs[1][0].label_documents))


def test_one_run_with_chosen_labels_and_layer(two_runs: tuple[Path, list[Run]], settings: StudySettings):
    store, runs = two_runs
    changed = msgspec.structs.replace(settings, labels=[runs[0].labels[1]], layer=1)
    loader_of = lambda run: lambda: load_run_models(run, "cpu")  # noqa: E731
    one_run = study(store, runs[:1], loader_of, changed)
    assert one_run.differences == []
    assert [row.settings.layer for row in one_run.runs[0].knockouts] == [1]
    named = study(store, runs[:1], loader_of, msgspec.structs.replace(changed, layer={"small": 1}))
    assert named.runs == one_run.runs
    per_label = study(store, runs[:1], loader_of, msgspec.structs.replace(changed, layer="per-label"))
    assert per_label.runs[0].layer_choice is None
    with pytest.raises(ConfigError, match="'other' is none of the runs"):
        study(store, runs[:1], loader_of, msgspec.structs.replace(settings, layer={"small": 1, "other": 1}))
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
