"""The study of two small runs: its tables, its differences, and its report in a browser."""

from __future__ import annotations

import re
import shutil
import subprocess
from html.parser import HTMLParser
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
from tegakari.analyses.study.differences import differences, same_tokens
from tegakari.analyses.study.render import html, markdown
from tegakari.indexer.pipeline import index
from tegakari.schemas.analysis_kinds import STUDY_ANALYSIS
from tegakari.schemas.circuit import CircuitSettings
from tegakari.schemas.errors import ConfigError, NotFoundError
from tegakari.schemas.knockout import KnockoutSettings
from tegakari.schemas.study import StudyResult, StudySettings
from tegakari.schemas.tables import CIRCUIT, KNOCKOUTS
from tegakari.store import Run, Store
from tegakari.store.results import find_analysis
from tests.indexer.conftest import SmallCase, with_index

SETTINGS = StudySettings(k=4, draws=2, ks=[4, 9], circuit=CircuitSettings(pairs=30, min_cosine=-1.0))


@pytest.fixture(scope="module")
def two_runs(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    store = tmp_path_factory.mktemp("study") / "store"
    for name in ("small", "other"):
        index(with_index(small_case, store, run=name))
    return store, [Store(store).run(name) for name in ("small", "other")]


@pytest.fixture(scope="module")
def result(two_runs: tuple[Path, list[Run]]) -> StudyResult:
    store, runs = two_runs
    return study(store, runs, lambda run: lambda: load_run_models(run, "cpu"), SETTINGS)


def test_every_part_equals_its_analysis_alone(two_runs: tuple[Path, list[Run]], result: StudyResult):
    store, runs = two_runs
    for run, run_study in zip(runs, result.runs, strict=True):

        def never() -> RunModels:
            raise AssertionError("it is stored")

        knockout = KnockoutSettings(k=4, draws=2)
        assert run_study.knockouts == sweeps.over_labels(store, run, never, run.labels, knockout)
        assert run_study.circuit == circuit(store, run, never, SETTINGS.circuit)
        layers = [row.settings.layer for row in run_study.knockouts]
        assert run_study.cues == [
            label_cues(run, label, layer=layer, k=4) for label, layer in zip(run.labels, layers, strict=True)
        ]
    analysis = find_analysis(store, STUDY_ANALYSIS, [run.manifest for run in runs], SETTINGS)
    assert analysis
    assert analysis.table(KNOCKOUTS).num_rows == 2 * len(result.labels)
    assert set(analysis.table(CIRCUIT)["run"].to_pylist()) == {"small", "other"}


def test_tables_are_written_as_csv(two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path):
    store, runs = two_runs
    write_csv_tables(store, runs, SETTINGS, tmp_path / "csv")
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "csv").iterdir()}
    assert lines.keys() == {"knockouts.csv", "circuit.csv", "variants.csv"}
    assert len(lines["knockouts.csv"]) == 1 + 2 * len(result.labels)
    with pytest.raises(NotFoundError):
        write_csv_tables(store, runs[:1], StudySettings(k=17), tmp_path / "csv")


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
    by_figure = {row.figure: row for row in differences([a, b], [result.runs[0], second], 0)}
    labels = sorted(set(expected.tolist()))
    predicted = np.asarray(a.blocks.documents.predicted_id)
    scores = [f1_score(expected, labelled, average="macro", labels=labels) for labelled in (predicted, worse)]
    assert (by_figure["macro-F1"].a, by_figure["macro-F1"].b) == pytest.approx(scores)
    assert by_figure["points lost in a knockout"].difference.value == pytest.approx(-10)
    assert by_figure["points lost in a knockout"].difference.high == pytest.approx(-10)
    assert by_figure["unique tokens of a label"].difference.value == 0


def test_one_run_with_chosen_labels_and_layer(two_runs: tuple[Path, list[Run]]):
    store, runs = two_runs
    settings = msgspec.structs.replace(SETTINGS, labels=[runs[0].labels[1]], layer=1)
    loader_of = lambda run: lambda: load_run_models(run, "cpu")  # noqa: E731
    one_run = study(store, runs[:1], loader_of, settings)
    assert one_run.differences == []
    assert [row.settings.layer for row in one_run.runs[0].knockouts] == [1]
    with pytest.raises(NotFoundError, match="no label"):
        study(store, runs[:1], loader_of, msgspec.structs.replace(SETTINGS, labels=["none"]))
    with pytest.raises(ConfigError, match="3 runs"):
        study(store, [*runs, runs[0]], loader_of, SETTINGS)


def test_the_report_gives_the_reason_for_a_missing_circuit(two_runs: tuple[Path, list[Run]]):
    store, runs = two_runs
    settings = msgspec.structs.replace(SETTINGS, circuit=CircuitSettings(min_cosine=1.0))
    one_run = study(store, runs[:1], lambda run: lambda: load_run_models(run, "cpu"), settings)
    assert one_run.runs[0].circuit is None
    assert one_run.runs[0].no_circuit
    assert one_run.runs[0].no_circuit in html(one_run, runs[:1]).replace("&gt;", ">").replace("&#39;", "'")


class Links(HTMLParser):
    """References and ids of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.ids: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "src" or (name.endswith("href") and tag != "a"):
                self.fetched.append(value or "")
            if name == "id":
                self.ids.append(value or "")


def test_the_report_has_all_sections_and_loads_nothing(two_runs: tuple[Path, list[Run]], result: StudyResult):
    _, runs = two_runs
    page = html(result, runs)
    links = Links(page)
    inside = {url.removeprefix("#") for url in links.fetched if not url.startswith("data:")}
    assert inside <= set(links.ids)
    assert len(links.ids) == len(set(links.ids))
    text = markdown(result, runs)
    for title in (
        "Table 1",
        "Table 2",
        "Tables 3 and 8",
        "Tables 4 and 9",
        "Table 7",
        "Figure 1",
        "Figure 2",
        "Shared features",
    ):
        assert title in page
        assert title in text
    for label in result.labels:
        assert f">{label}</a>" in page
        assert f"| {label} |" in text
    assert page.count("<svg") == 3
    assert page == html(result, runs)  # equal results give equal pages
    assert len({line.count("|") for line in text.split("## ")[2].splitlines() if line.startswith("|")}) == 1


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_report_without_errors_or_network(
    two_runs: tuple[Path, list[Run]], result: StudyResult, tmp_path: Path
):
    assert CHROMIUM
    _, runs = two_runs
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(html(result, runs), encoding="utf-8")
    offline = ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--v=0"]
    base = [
        CHROMIUM,
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        f"--user-data-dir={tmp_path / 'profile'}",
        *offline,
    ]
    dumped = subprocess.run(
        [*base, "--dump-dom", page.as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in dumped.stderr, dumped.stderr  # the console has a page's errors and refused loads
    assert dumped.stdout.count("<section") == 9
    assert re.search(r"<svg[^>]* height=", dumped.stdout)
    drawn = [*base, "--window-size=1200,2000", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(drawn, capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 30_000
