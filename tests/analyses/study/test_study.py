"""The whole study of two small runs: what is in it, what its differences say, and its report in a browser."""

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
def two(small_case: SmallCase, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Run]]:
    store = tmp_path_factory.mktemp("study") / "store"
    for name in ("small", "other"):
        index(with_index(small_case, store, run=name))
    return store, [Store(store).run(name) for name in ("small", "other")]


@pytest.fixture(scope="module")
def made(two: tuple[Path, list[Run]]) -> StudyResult:
    store, runs = two
    return study(store, runs, lambda run: lambda: load_run_models(run, "cpu"), SETTINGS)


def test_every_part_is_what_it_is_alone(two: tuple[Path, list[Run]], made: StudyResult):
    store, runs = two
    for run, mine in zip(runs, made.runs, strict=True):

        def never() -> RunModels:
            raise AssertionError("it is stored")

        asked = KnockoutSettings(k=4, draws=2)
        assert mine.knockouts == sweeps.over_labels(store, run, never, run.labels, asked)
        assert mine.circuit == circuit(store, run, never, SETTINGS.circuit)
        layers = [row.settings.layer for row in mine.knockouts]
        assert mine.cues == [
            label_cues(run, label, layer=layer, k=4) for label, layer in zip(run.labels, layers, strict=True)
        ]
    analysis = find_analysis(store, "study", [run.manifest for run in runs], SETTINGS)
    assert analysis
    assert analysis.table(KNOCKOUTS).num_rows == 2 * len(made.labels)
    assert set(analysis.table(CIRCUIT)["run"].to_pylist()) == {"small", "other"}


def test_tables_for_spreadsheets(two: tuple[Path, list[Run]], made: StudyResult, tmp_path: Path):
    store, runs = two
    write_csv_tables(store, runs, SETTINGS, tmp_path / "csv")
    lines = {path.name: path.read_text().splitlines() for path in (tmp_path / "csv").iterdir()}
    assert lines.keys() == {"knockouts.csv", "circuit.csv", "variants.csv"}
    assert len(lines["knockouts.csv"]) == 1 + 2 * len(made.labels)
    with pytest.raises(NotFoundError):
        write_csv_tables(store, runs[:1], StudySettings(k=17), tmp_path / "csv")


def test_other_tokens_are_noticed(two: tuple[Path, list[Run]], made: StudyResult, monkeypatch: pytest.MonkeyPatch):
    assert made.same_tokens
    store, (a, _) = two
    b = Store(store).run("other")
    documents = b.blocks.documents
    changed = np.array(documents.token_ids)
    changed[5] += 1
    monkeypatch.setattr(b.blocks, "documents", documents._replace(token_ids=changed))
    assert not same_tokens([a, b])
    assert "different tokens" in markdown(msgspec.structs.replace(made, same_tokens=False), [a, b])


def test_a_model_does_not_differ_from_itself(made: StudyResult):
    assert made.shared_documents > 0
    assert made.left_out == []
    assert len(made.differences) == 7 + 4
    assert made.matching
    assert all(row.only == 0 for row in made.matching.only)
    for row in made.differences:
        assert row.difference.value == 0, row.figure
        assert row.difference.low <= 0 <= row.difference.high


def test_differences_are_found(two: tuple[Path, list[Run]], made: StudyResult, monkeypatch: pytest.MonkeyPatch):
    """The second run's predictions and knockouts made worse by hand."""
    store, (a, _) = two
    b = Store(store).run("other")
    documents = b.blocks.documents
    own = np.asarray(documents.label_id)
    worse = np.where(np.arange(len(own)) % 2 == 0, (own + 1) % len(b.labels), own).astype(np.int32)
    monkeypatch.setattr(b.blocks, "documents", documents._replace(predicted_id=worse))
    second = msgspec.structs.replace(
        made.runs[1],
        knockouts=[msgspec.structs.replace(row, delta=row.delta - 10) for row in made.runs[1].knockouts],
    )
    found = {row.figure: row for row in differences([a, b], [made.runs[0], second], 0)}
    labels = sorted(set(own.tolist()))
    predicted = np.asarray(a.blocks.documents.predicted_id)
    expected = [f1_score(own, each, average="macro", labels=labels) for each in (predicted, worse)]
    assert (found["macro-F1"].a, found["macro-F1"].b) == pytest.approx(expected)
    assert found["points lost in a knockout"].difference.value == pytest.approx(-10)
    assert found["points lost in a knockout"].difference.high == pytest.approx(-10)
    assert found["unique tokens of a label"].difference.value == 0


def test_one_run_alone_and_labels_of_ones_own(two: tuple[Path, list[Run]]):
    store, runs = two
    asked = msgspec.structs.replace(SETTINGS, labels=[runs[0].labels[1]], layer=1)
    load = lambda run: lambda: load_run_models(run, "cpu")  # noqa: E731
    found = study(store, runs[:1], load, asked)
    assert found.differences == []
    assert [row.settings.layer for row in found.runs[0].knockouts] == [1]
    with pytest.raises(NotFoundError, match="no label"):
        study(store, runs[:1], load, msgspec.structs.replace(SETTINGS, labels=["none"]))
    with pytest.raises(ConfigError, match="3 runs"):
        study(store, [*runs, runs[0]], load, SETTINGS)


def test_what_cannot_be_made_is_said_in_its_place(two: tuple[Path, list[Run]]):
    store, runs = two
    asked = msgspec.structs.replace(SETTINGS, circuit=CircuitSettings(min_cosine=1.0))
    found = study(store, runs[:1], lambda run: lambda: load_run_models(run, "cpu"), asked)
    assert found.runs[0].circuit is None
    assert found.runs[0].no_circuit
    assert found.runs[0].no_circuit in html(found, runs[:1]).replace("&gt;", ">").replace("&#39;", "'")


class Links(HTMLParser):
    """What a page refers to."""

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


def test_the_report_holds_all_and_needs_nothing(two: tuple[Path, list[Run]], made: StudyResult):
    _, runs = two
    page = html(made, runs)
    found = Links(page)
    inside = {each.removeprefix("#") for each in found.fetched if not each.startswith("data:")}
    assert inside <= set(found.ids)
    assert len(found.ids) == len(set(found.ids))
    text = markdown(made, runs)
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
    for label in made.labels:
        assert f">{label}</a>" in page
        assert f"| {label} |" in text
    assert page.count("<svg") == 3
    assert page == html(made, runs)  # the same figures give the same page
    assert len({line.count("|") for line in text.split("## ")[2].splitlines() if line.startswith("|")}) == 1


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_it_without_errors_or_network(two: tuple[Path, list[Run]], made: StudyResult, tmp_path: Path):
    assert CHROMIUM
    _, runs = two
    page, shot = tmp_path / "report.html", tmp_path / "report.png"
    page.write_text(html(made, runs), encoding="utf-8")
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
    assert "CONSOLE" not in dumped.stderr, dumped.stderr  # where a page's errors and refused loads are told
    assert dumped.stdout.count("<section") == 9
    assert re.search(r"<svg[^>]* height=", dumped.stdout)
    drawn = [*base, "--window-size=1200,2000", f"--screenshot={shot}", page.as_uri()]
    subprocess.run(drawn, capture_output=True, timeout=120, check=True)
    assert shot.stat().st_size > 30_000
