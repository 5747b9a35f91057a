"""A study of two groups of two replicates: SAEs of one classifier with four seeds, two of them hardly trained."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest
from sklearn.metrics import f1_score

from tegakari.analyses.engine.run_models import load_run_models
from tegakari.analyses.study import study
from tegakari.analyses.study.csv_tables import write_csv_tables
from tegakari.analyses.study.differences import Figure, Groups, Words, difference_of
from tegakari.analyses.study.render import html, markdown
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.store import Run, Store
from tests.support.small_case import SmallCase, trained_run


@pytest.fixture(scope="module")
def groups(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run], list[Run]]:
    root = tmp_path_factory.mktemp("replicates")
    a = [trained_run(small_case, root, f"a{seed}", seed=seed) for seed in (0, 1)]
    b = [trained_run(small_case, root, f"b{seed}", seed=seed, learning_rate=1e-5, epochs=1) for seed in (2, 3)]
    return Store(root / "store").directory, a, b


@pytest.fixture(scope="module")
def result(groups: tuple[Path, list[Run], list[Run]], settings: StudySettings) -> StudyResult:
    store, a, b = groups
    skipping = msgspec.structs.replace(settings, skip=["circuit", "variants"])
    return study(store, a, lambda run: lambda: load_run_models(run, "cpu"), skipping, against=b)


def test_differences_are_between_the_means_of_groups(
    groups: tuple[Path, list[Run], list[Run]], result: StudyResult, settings: StudySettings
):
    _, a, b = groups
    assert result.groups == [["a0", "a1"], ["b2", "b3"]]
    assert [run.run for run in result.runs] == ["a0", "a1", "b2", "b3"]
    by_figure = {row.figure: row for row in result.differences}
    active = by_figure["active features of a document"]
    means = [
        [run.sparsity.active.value for run in result.runs[:2]],
        [run.sparsity.active.value for run in result.runs[2:]],
    ]
    assert active.values == [pytest.approx(group) for group in means]
    assert active.difference.value == pytest.approx(np.mean(means[1]) - np.mean(means[0]))
    assert active.covers_training
    assert active.difference.low < active.difference.value < active.difference.high
    expected = [np.asarray(run.blocks.documents.label_id) for run in (*a, *b)]
    predicted = [np.asarray(run.blocks.documents.predicted_id) for run in (*a, *b)]
    score = f1_score(expected[0], predicted[0], average="macro")
    classifier = by_figure["macro-F1"]
    assert classifier.values == [pytest.approx([score] * 2)] * 2
    assert classifier.difference.value == 0  # one classifier
    variety = by_figure["mean label variety"]
    assert variety.values == [
        [run.specificity.mean_variety.value for run in side] for side in (result.runs[:2], result.runs[2:])
    ]
    assert (variety.n, variety.over) == (0, "training")


def test_replicates_widen_the_interval(result: StudyResult):
    """The spread between replicates is added: the interval is not narrower than that over documents alone."""
    tokens = [[cues.unique_tokens.value for cues in run.cues] for run in result.runs]
    row = next(row for row in result.differences if row.figure == "unique tokens of a label")
    assert row.values == [pytest.approx(np.mean(tokens[:2], 1)), pytest.approx(np.mean(tokens[2:], 1))]
    training = sum(np.var(side, ddof=1) / 2 for side in row.values)
    assert row.difference.high - row.difference.value >= 1.96 * training**0.5


def test_matching_has_the_replicates_as_baseline(result: StudyResult):
    assert result.matching
    assert result.matching.runs == ["a0", "b2"]
    assert [baseline.runs for baseline in result.baselines] == [["a0", "a1"], ["b2", "b3"]]
    assert not any("no baseline" in sentence for sentence in result.limits)
    assert any("cover documents and the seeds" in sentence for sentence in result.limits)


def test_report_and_tables_name_every_run(
    groups: tuple[Path, list[Run], list[Run]], result: StudyResult, tmp_path: Path
):
    store, a, b = groups
    text = markdown(result, [*a, *b])
    assert text.startswith("# Study of a0 and a1 against b2 and b3")
    assert "| figure | a0 | a1 | b2 | b3 | a0 and a1 | b2 and b3 | difference (95 %) | over | n |" in text
    assert "Shared features of replicates: b2 and b3" in text
    assert html(result, [*a, *b]).count("<svg") == 2
    write_csv_tables(store, [*a, *b], result, tmp_path)
    lines = (tmp_path / "differences.csv").read_text().splitlines()
    assert lines[0] == '"figure","name","a","b","difference","low","high","over","n","covers_training"'
    assert len(lines) == 1 + len(result.differences)
    assert all(line.endswith("true") for line in lines[1:])


def test_the_order_of_replicates_does_not_matter(result: StudyResult):
    """Beside the spread of the runs the interval has the documents, drawn with one seed."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(5, 40))
    intervals = [
        difference_of(
            Figure(Words("any", "any figure"), "items", 40, lambda sample, rows=rows: values[rows][:, sample].mean(1)),
            Groups(2, 3),
            0,
        ).difference
        for rows in ([0, 1, 2, 3, 4], [1, 0, 4, 2, 3])
    ]
    assert intervals[0].low == pytest.approx(intervals[1].low)
    assert intervals[0].high == pytest.approx(intervals[1].high)
